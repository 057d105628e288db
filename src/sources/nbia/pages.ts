/** What the web pages of an archive's collections offer beside NBIA's series. */
import { RunError } from "../../errors.ts";
import { mapOrdered } from "../../lib/concurrent.ts";
import { nearMatches } from "../../model/address.ts";
import type { Row } from "../../model/item.ts";
import type { Query } from "../../model/query.ts";
import type { SourceContext } from "../source.ts";
import type { PageRecord, PagesApi } from "./pages-api.ts";
import { downloadRow, mediaIdOf, type Offerer, offererOf } from "./pages-map.ts";

const MEDIA_JOBS = 4;

/**
 * The downloads of one collection or analysis result (`query.path`), of those that `--collection` names, or of all;
 * sorted by name, each page's in its own order. Throws `unknown-name`, `usage`.
 */
export async function* listDownloads(
  api: PagesApi,
  archive: string,
  query: Query,
  context: SourceContext,
): AsyncGenerator<Row> {
  if (query.path.length > 1) {
    throw new RunError("usage", "pages offer downloads of a whole collection", {
      hint: `for example: gantry find ${archive}:COLLECTION --downloads`,
    });
  }
  const known = await readOfferers(api, context);
  const words = [...query.path, ...(query.filters.words.collection ?? [])];
  const wanted = words.length === 0 ? known : [...new Set(words.map((word) => named(word, known, archive)))];
  wanted.sort((a, b) => (a.name < b.name ? -1 : 1));
  const missing = wanted.flatMap(({ downloads, whole }) => downloads.filter((id) => !isWhole(whole.get(id))));
  const read = new Map<string, PageRecord>();
  if (missing.length > 0) {
    const ids = [...new Set(missing)];
    for await (const record of api.records("downloads", ids, context)) read.set(String(record.id), record);
  }
  async function* found(): AsyncGenerator<{ offerer: Offerer; record: PageRecord }> {
    for (const offerer of wanted) {
      for (const id of offerer.downloads) {
        const mine = offerer.whole.get(id);
        const own = read.get(id);
        // A download that was withdrawn leaves its id on the page.
        if (mine || own) yield { offerer, record: { ...own, ...mine } };
      }
    }
  }
  yield* mapOrdered(found(), MEDIA_JOBS, async ({ offerer, record }) => {
    const media = mediaIdOf(record);
    return downloadRow(offerer.name, record, media === null ? null : await api.mediaUrl(media, context));
  });
}

async function readOfferers(api: PagesApi, context: SourceContext): Promise<Offerer[]> {
  const all = new Map<string, Offerer>();
  for (const [resource, prefix] of [
    ["collections", "collection"],
    ["analysis-results", "result"],
  ] as const) {
    for await (const record of api.records(resource, null, context)) {
      const offerer = offererOf(record, prefix);
      // After a retry records come again; a collection's name wins over a result's.
      if (offerer && !all.has(offerer.name)) all.set(offerer.name, offerer);
    }
  }
  return [...all.values()];
}

/** Verbose v2 records may lack their title, which the downloads' own list has (tcia_snapshot.py). */
function isWhole(record: PageRecord | undefined): boolean {
  return record !== undefined && Boolean(record.download_title ?? record["download title"] ?? record.title);
}

/** Short titles are spelt with and without dashes (tcia_snapshot.py, `short_title_key`). */
const keyOf = (name: string): string => name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");

function named(word: string, known: readonly Offerer[], archive: string): Offerer {
  const exact = known.find((each) => each.name === word);
  if (exact) return exact;
  const key = keyOf(word);
  for (const names of [(each: Offerer) => [each.name], (each: Offerer) => each.alsoNamed]) {
    const same = known.filter((each) => names(each).some((name) => keyOf(name) === key));
    if (same.length === 1) return same[0] as Offerer;
    if (same.length > 1) {
      throw new RunError(
        "unknown-name",
        `${JSON.stringify(word)} fits several pages of ${archive}: ${same.map((each) => each.name).join(", ")}`,
      );
    }
  }
  const near = nearMatches(
    word,
    known.map((each) => each.name),
  );
  throw new RunError("unknown-name", `${archive} has no page of a collection ${JSON.stringify(word)}`, {
    hint:
      near.length > 0
        ? `did you mean ${near.join(", ")}?`
        : `all that pages offer: gantry find ${archive}: --downloads`,
  });
}
