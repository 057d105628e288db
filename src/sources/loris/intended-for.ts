/**
 * `IntendedFor` of field maps (BIDS, "Expressing the MR protocol intent for fieldmaps"): images that a JSON side file
 * names, as a path below its subject's folder or as a BIDS URI. A validator reports one that is not there.
 */
import type { Item } from "../../model/item.ts";
import { formatAddress } from "../../model/selection.ts";
import type { Dangling, HeldItem } from "../source.ts";
import { textOf } from "./bids-deviations.ts";

/** What is named and not here, subject by subject. */
export async function* danglingIntended(held: AsyncIterable<HeldItem>): AsyncGenerator<Dangling> {
  let key = "";
  let paths = new Set<string>();
  let named: { readonly by: string; readonly path: string; readonly archive: string }[] = [];
  function* missing(): Generator<Dangling> {
    for (const { by, path, archive } of named)
      if (!paths.has(path)) yield { by, path, address: addressOf(archive, path) };
    paths = new Set();
    named = [];
  }
  for await (const each of held) {
    const { Type, Project, Candidate } = each.item.labels;
    if (Type !== "bids" || Candidate == null) continue;
    const own = JSON.stringify([each.item.archive, Project, Candidate]);
    if (own !== key) yield* missing();
    key = own;
    for (const by of each.paths) {
      paths.add(by);
      if (!/\/(fmap|perf)\/[^/]+\.json$/u.test(by)) continue;
      const subject = by.slice(0, by.indexOf("/") + 1);
      for (const target of intendedFor(await textOf(each)))
        named.push({ by, path: pathOf(target, subject), archive: each.item.archive });
    }
  }
  yield* missing();
}

function intendedFor(json: string): string[] {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return [];
  }
  const named: unknown =
    typeof value === "object" && value !== null && "IntendedFor" in value ? value.IntendedFor : [];
  return (Array.isArray(named) ? named : [named]).filter((each): each is string => typeof each === "string");
}

function pathOf(target: string, subject: string): string {
  const uri = /^bids::(.*)$/u.exec(target);
  return uri ? (uri[1] as string) : subject + target;
}

function addressOf(archive: string, path: string): string | null {
  const [, candidate, visit, file] = /^sub-([^/]+)\/ses-([^/]+)\/(?:.*\/)?([^/]+)$/u.exec(path) ?? [];
  if (candidate === undefined || visit === undefined || file === undefined) return null;
  return formatAddress(archive, ["bids", candidate, visit, file]);
}

/** Of a listing, the images at `paths` with their side files and the tables of their sessions. */
export async function* withSideFiles(
  paths: ReadonlySet<string>,
  items: AsyncIterable<Item>,
): AsyncGenerator<Item> {
  const images = new Set([...paths].map(stemOf));
  const sessions = new Set([...paths].map((path) => path.split("/").slice(0, 2).join("/")));
  for await (const item of items) {
    const path = String(item.labels.Path ?? "");
    const stem = stemOf(path);
    const owners = [stem, stem.replace(/_events$/u, ""), stem.replace(/_events$/u, "_bold")];
    const ofSession = path.split("/").length === 3 && sessions.has(path.slice(0, path.lastIndexOf("/")));
    if (ofSession || owners.some((owner) => images.has(owner))) yield item;
  }
}

/** Without all that follows the first dot of the name. */
const stemOf = (path: string): string => path.replace(/\.[^/]*$/u, "");
