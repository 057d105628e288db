/** Listings of a package: both paging modes, and rows as a node's browse gives them. */
import picomatch from "picomatch";
import {
  nodeAt,
  type TreeFile,
  type TreeFolder,
  type TreeNode,
  targetOf,
} from "../../../sandbox/data/packages.ts";
import type { Reply, SandboxRequest } from "../../../sandbox/stand-ins.ts";
import type { Delivery } from "./deliveries.ts";
import { json, parsed, refuse } from "./reply.ts";

/** Whatever is asked for: the node's cap, and what users of TCIA's older paging got. */
const PAGE_CAP = 1000;
const OFFSET_CAP = 100;

const PERMISSIONS = [{ name: "view" }, { name: "edit" }, { name: "delete" }];
const iso = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

export function browse(
  delivery: Delivery,
  mode: "offset" | "page",
  request: SandboxRequest,
  tokens: Map<string, { readonly path: string; readonly offset: number }>,
): Reply {
  const body = parsed(request.text);
  const { path } = body;
  if (typeof path !== "string" || path === "") return refuse(400, 1003, "The parameter path is missing");
  if (delivery.wantsSlash && !path.startsWith("/"))
    return refuse(500, 1202, "The node could not browse the path");
  const found = targetOf(nodeAt(delivery.package.root, path));
  const rows = found?.kind === "folder" ? sorted(filtered(listed(found, path), body.filters), body.sort) : [];
  const self = found === undefined ? {} : { self: selfRow(found, path) };
  const asked = Number(request.query.get("limit") ?? request.query.get("per_page") ?? PAGE_CAP);
  const limit = Number.isInteger(asked) && asked > 0 ? asked : PAGE_CAP;
  if (mode === "offset") {
    const offset = Number(request.query.get("offset") ?? 0);
    const items = rows.slice(offset, offset + Math.min(limit, OFFSET_CAP));
    return json(200, { ...self, items, item_count: items.length, total_count: rows.length });
  }
  const token = request.query.get("iteration_token") ?? body.iteration_token;
  let offset = 0;
  if (typeof token === "string" && token !== "") {
    const at = tokens.get(token);
    if (at === undefined || at.path !== path) return refuse(400, 1003, "The iteration token is not valid");
    offset = at.offset;
  }
  const end = offset + Math.min(limit, PAGE_CAP);
  const items = rows.slice(offset, end);
  const headers: Record<string, string> = {};
  if (end < rows.length) {
    const next = Buffer.from(`${delivery.number} ${end} ${path}`).toString("base64url");
    tokens.set(next, { path, offset: end });
    headers["X-Aspera-Next-Iteration-Token"] = next;
  }
  return json(200, { path, items, item_count: items.length }, headers);
}

interface Row {
  readonly path: string;
  readonly basename: string;
  readonly type: string;
  readonly size?: number | string | null;
  readonly mtime?: string | null;
}

function listed(folder: TreeFolder, path: string): Row[] {
  const prefix = path.endsWith("/") ? path : `${path}/`;
  return [...folder.children.values()].map((node) => row(node, `${prefix}${node.name}`));
}

/** Folders have neither size nor time, as TCIA's listings show them. */
function row(node: TreeNode, path: string): Row {
  const common = { path, basename: node.name, permissions: PERMISSIONS };
  if (node.kind === "folder") return { ...common, type: "directory", size: null, mtime: null };
  if (node.kind === "file")
    return { ...common, type: "file", size: sizeOf(node), mtime: iso(node.modifiedMs) };
  const link = { ...common, type: "symbolic_link", mtime: iso(node.modifiedMs) };
  const { to, says } = node;
  if (to === null || says === "nothing") return link;
  const target = { path: `/archive/${to.name}`, basename: to.name, permissions: PERMISSIONS };
  if (to.kind === "folder") return { ...link, ...{ target: { ...target, type: "directory" } } };
  const size = says === "all" ? { size: to.sizeBytes } : {};
  return {
    ...link,
    ...size,
    ...{ target: { ...target, type: "file", ...size, mtime: iso(to.modifiedMs) } },
  };
}

function sizeOf({ sizeBytes, listedSize }: TreeFile): number | string | null {
  return listedSize === "text" ? String(sizeBytes) : listedSize === "null" ? null : sizeBytes;
}

function selfRow(node: TreeFile | TreeFolder, path: string): object {
  return row({ ...node, name: path.split("/").findLast((name) => name !== "") ?? "/" }, path);
}

function filtered(rows: Row[], filters: unknown): Row[] {
  if (typeof filters !== "object" || filters === null) return rows;
  const { basenames, types, size_min, size_max } = filters as Record<string, unknown>;
  const globs = texts(basenames).map((glob) => picomatch(glob, { dot: true }));
  const kinds = texts(types);
  const inside = (size: Row["size"]): boolean =>
    (typeof size_min !== "number" || Number(size ?? -1) >= size_min) &&
    (typeof size_max !== "number" || (size != null && Number(size) <= size_max));
  return rows.filter(
    ({ basename, type, size }) =>
      (globs.length === 0 || globs.some((glob) => glob(basename))) &&
      (kinds.length === 0 || kinds.includes(type)) &&
      inside(size),
  );
}

const texts = (value: unknown): string[] =>
  Array.isArray(value) ? value.filter((one): one is string => typeof one === "string") : [];

function sorted(rows: Row[], sort: unknown): Row[] {
  const keys: Readonly<Record<string, (row: Row) => string | number>> = {
    path: ({ path }) => path,
    type: ({ type }) => type,
    size_a: ({ size }) => Number(size ?? 0),
    size_d: ({ size }) => -Number(size ?? 0),
    mtime_a: ({ mtime }) => Date.parse(mtime ?? "") || 0,
    mtime_d: ({ mtime }) => -(Date.parse(mtime ?? "") || 0),
  };
  const key = typeof sort === "string" ? keys[sort] : undefined;
  if (key === undefined) return rows;
  return rows.toSorted((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
}
