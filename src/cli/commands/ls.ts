import { type AscpFlags, ascpChoices, KEY_FLAG } from "../ascp-flags.ts";
import { CACHE_FLAGS, type CacheFlags, cacheOptions } from "../cache.ts";
import { defineCommand, type Running, UsageError } from "../command.ts";
import { FILTER_FLAGS, readFilters } from "../filters.ts";
import type { Row } from "../library.ts";
import { exitOf, logWarnings, warner, withGantry } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";

interface Flags extends TableFlags, CacheFlags, Pick<AscpFlags, "key"> {
  readonly recursive?: boolean;
  readonly long?: boolean;
}

export const command = defineCommand<Flags>({
  words: "<address> [path...]",
  about: "Shows one level of an archive's tree. Every row's address can be pasted back into a command.",
  flags: [
    { flags: "-R, --recursive", help: "all levels down to the items" },
    { flags: "-l, --long", help: "with sizes and counts" },
    ...TABLE_FLAGS,
    ...FILTER_FLAGS,
    ...CACHE_FLAGS,
    KEY_FLAG,
  ],
  examples: [
    ["gantry ls tcia:", "the collections"],
    ["gantry ls -l tcia:LCTSC", "the patients of one, with sizes"],
    ["gantry ls -R tcia:LCTSC --modality RTSTRUCT", "every series of a kind"],
    ["gantry ls packed/LCTSC.tar.zst", "the members of an archive file"],
    ["gantry ls packed 'LCTSC/*-S1-101'", "what a folder holds, in however many archive files"],
  ],
  async run({ words, flags }, running) {
    const library = await running.io.library();
    const [first = ""] = words;
    if (await library.holdsMembers(first)) return listMembers(first, words.slice(1), flags, running);
    return withGantry(
      running,
      async (gantry) => {
        const { recursive = false, long = false } = flags;
        const listing = await gantry.list(words, { recursive, long, filters: readFilters(flags) });
        return exitOf(listing, await writeTable(running.io, listing, flags));
      },
      { ...cacheOptions(flags, running), ...ascpChoices(flags), log: logWarnings(running) },
    );
  },
});

/** The members of an archive file on the disk, or of all that a folder holds. */
async function listMembers(
  place: string,
  paths: readonly string[],
  flags: Flags,
  { io, signal }: Running,
): Promise<number> {
  const [other] = Object.keys(flags).filter(
    (name) => !["format", "fields", "recursive", "long"].includes(name),
  );
  if (other !== undefined)
    throw new UsageError("what is on this disk is listed without filters", "leave them out, or name paths");
  const { MemberPaths, openMembers, isArchiveName } = await io.library();
  const members = await openMembers(place, { warn: warner(io) });
  const wanted = new MemberPaths(paths);
  async function* rows(): AsyncIterable<Row> {
    for await (const { path, bytes, digest, archive } of members.members()) {
      signal.throwIfAborted();
      if (wanted.has(path)) yield { path, bytes, digest, archive: archive ?? null };
    }
    wanted.complain(place);
  }
  const columns = ["path", "bytes", "digest", ...(isArchiveName(place) ? [] : ["archive"])];
  await writeTable(io, { columns, rows: rows() }, flags);
  return 0;
}
