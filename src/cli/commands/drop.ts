import { defineCommand, type Running, shellWord, UsageError } from "../command.ts";
import { FILTER_FLAGS, readFilters } from "../filters.ts";
import { canAsk, type Io } from "../io.ts";
import type { DropFound, Row } from "../library.ts";
import { withGantry } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";
import { counted, grouped, shown, sized } from "../render/wording.ts";
import { say } from "../render/writer.ts";

interface Flags extends TableFlags {
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

const SHOWN_BRANCHES = 10;

export const command = defineCommand<Flags>({
  words: "<dir> [address] [path...]",
  about:
    "Deletes data from a folder, a withdrawn subject for example, and remembers that they are never fetched into it again. Asks no archive.",
  flags: [
    { flags: "--dry-run", help: "only show what would go" },
    { flags: "--yes", help: "do not ask; needed where nobody can be asked" },
    ...TABLE_FLAGS,
    ...FILTER_FLAGS,
  ],
  examples: [
    ["gantry drop lctsc tcia:LCTSC/LCTSC-Test-S1-101", "a subject that withdrew consent"],
    ["gantry drop lctsc --patient LCTSC-Test-S1-101,LCTSC-Test-S1-102 --dry-run", "see what would go"],
    ["gantry drop lctsc tcia:1.3.6.1.4.1.14519.5.2.1.1.5.1 --yes", "one series or study, from a script"],
  ],
  async run({ words: [dir = "", ...words], flags }, running) {
    const { io } = running;
    if (!flags.dryRun && !flags.yes && !canAsk(io)) {
      throw new UsageError(
        "nobody can be asked whether to delete",
        "say --yes, or look first with --dry-run",
      );
    }
    return withGantry(running, async (gantry) => {
      const summary = await gantry.drop(words, {
        dir,
        filters: readFilters(flags),
        dryRun: flags.dryRun === true,
        warn: (sentence) => say(io, `warning: ${shown(sentence)}`),
        ...(flags.yes ? {} : { confirm: (found) => ask(found, running) }),
      });
      if (flags.dryRun) {
        await writeFound(io, summary, flags);
        say(io, ...rememberedLines(summary), "Nothing was deleted (--dry-run).");
        return 0;
      }
      if (!summary.done) {
        say(io, "Nothing was deleted.");
        return 0;
      }
      const { going, before, deletedFiles } = summary;
      const folder = shellWord(dir);
      if (going.items === 0) say(io, `Dropped before: ${counted(before, "item")}.`);
      else say(io, `Dropped ${counted(going.items, "item")} (${sized(going.bytes)}).`);
      say(
        io,
        `Deleted ${counted(deletedFiles, "file")}. No get in ${shown(dir)} fetches any of it again.`,
        ...rememberedLines(summary),
        `Not rewritten: ${shown(dir)}/.gantry/selections, receipts and logs, which may still hold names and labels.`,
        `To prove the rest: gantry verify ${folder}`,
      );
      return 0;
    });
  },
});

async function ask(found: DropFound, { io }: Running): Promise<boolean> {
  const { going, neverFetched, before } = found;
  const lines = [
    `To delete from ${shown(found.dir)}: ${counted(going.items, "item")}, ${counted(going.files, "file")}, ${sized(going.bytes)}.`,
  ];
  if (neverFetched > 0) lines.push(`  ${grouped(neverFetched)} of them were never fetched.`);
  if (before > 0) lines.push(`  ${counted(before, "item")} more were dropped before.`);
  say(io, ...lines, ...rememberedLines(found));
  const answer = await (await io.system()).ask("Delete it? There is no way back. [y/N] ");
  return /^y(es)?$/iu.test(answer?.trim() ?? "");
}

/** Whole parts of the tree stay away with all that the archive may add to them. */
function rememberedLines({ branches }: DropFound): string[] {
  if (branches.length === 0) return [];
  const names = branches
    .slice(0, SHOWN_BRANCHES)
    .map(
      ({ level, archive, path }) =>
        `  ${level} ${shown(`${archive === null ? "" : `${archive}:`}${path.join("/")}`)}`,
    );
  const more = branches.length - names.length;
  return [
    "Stays away whole, with what the archive adds later:",
    ...names,
    ...(more > 0 ? [`  and ${grouped(more)} more`] : []),
  ];
}

async function writeFound(io: Io, found: DropFound, flags: TableFlags): Promise<void> {
  async function* rows(): AsyncIterable<Row> {
    yield { what: "to delete", ...found.going };
    yield { what: "of these never fetched", items: found.neverFetched, files: null, bytes: null };
    yield { what: "dropped before", items: found.before, files: null, bytes: null };
  }
  await writeTable(io, { columns: ["what", "items", "files", "bytes"], rows: rows() }, flags);
}
