import { defineCommand, isRunError, parseJobs, type Running, shellWord, UsageError } from "../command.ts";
import type { Io } from "../io.ts";
import type { Row, RunEvent, VerifySummary } from "../library.ts";
import { createProgress, PROGRESS_MODES, type ProgressMode } from "../render/progress.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";
import { counted, grouped, lasting, shown, sized } from "../render/wording.ts";
import { createWriter, say } from "../render/writer.ts";

interface Flags extends TableFlags {
  readonly strict?: boolean;
  readonly jobs?: number;
  readonly sums?: string;
  readonly writeSums?: string | true;
  readonly progress?: ProgressMode;
  readonly json?: boolean;
}

export const command = defineCommand<Flags>({
  words: "[dir]",
  about:
    "Proves again what is on disk: hashes every file and compares it with its receipt. Lists only what is not as it was.",
  flags: [
    { flags: "--strict", help: "moved and extra files count as failures, too" },
    { flags: "--jobs <n>", help: "how many files at once", parse: parseJobs },
    {
      flags: "--sums <file>",
      help: "check any md5, sha1, sha256 or sha512 list instead; DIR: what its names are relative to",
    },
    { flags: "--write-sums [file]", help: "write such a list of the folder (default: DIR/MD5SUMS)" },
    {
      flags: "--progress <mode>",
      help: "how progress is shown (default: auto)",
      choices: PROGRESS_MODES,
      group: "Output:",
    },
    { flags: "--json", help: "print events to stdout, one a line", group: "Output:" },
    ...TABLE_FLAGS,
  ],
  examples: [
    ["gantry verify lctsc", "prove a folder that `get` has filled"],
    ["gantry verify packed/LCTSC.tar.zst", "an archive file, by the index beside it"],
    ["gantry verify --sums MD5SUMS", "check a list that anybody made"],
    ["gantry verify lctsc --write-sums lctsc.md5", "a list for `md5sum -c`"],
  ],
  async run({ words, flags }, running) {
    const [dir] = words;
    if (flags.sums !== undefined) {
      if (flags.writeSums !== undefined)
        throw new UsageError("--sums reads a list and --write-sums makes one: use one");
      return verifySums(flags.sums, dir, flags, running);
    }
    if (dir === undefined)
      throw new UsageError("there is no folder to verify", "name one, or a list with --sums FILE");
    if (flags.writeSums !== undefined) return writeSums(dir, flags.writeSums, running);
    if ((await running.io.library()).isArchiveName(dir) && (await (await running.io.system()).isFile(dir)))
      return verifyArchiveFile(dir, flags, running);
    return verifyFolder(dir, flags, running);
  },
});

async function writeSums(dir: string, to: string | true, { io, signal }: Running): Promise<number> {
  const { writeFolderSums } = await io.library();
  const file = to === true ? `${dir}/MD5SUMS` : to;
  const { files, standsAlone, packed } = await writeFolderSums(dir, { to: file, signal });
  const listed = `${counted(files, "file")} listed in ${shown(file)}.`;
  if (packed) {
    say(
      io,
      `${listed} To check it, in a folder where the archive files are unpacked: md5sum -c ${shellWord(file)}`,
    );
    return 0;
  }
  const check = ["gantry verify --sums", shellWord(file), ...(standsAlone ? [] : [shellWord(dir)])].join(" ");
  say(io, `${listed} To check it: ${check}`);
  return 0;
}

/** An archive file by itself, against its index. */
async function verifyArchiveFile(archive: string, flags: Flags, { io, signal }: Running): Promise<number> {
  const { verifyArchive } = await io.library();
  const startedMs = io.monotonicMs();
  const counts = { files: 0, bytes: 0, changed: 0 };
  async function* changed(): AsyncGenerator<Row> {
    for await (const { path, bytes, error } of verifyArchive(archive, signal)) {
      counts.files += 1;
      counts.bytes += bytes;
      if (error === null) continue;
      counts.changed += 1;
      yield { outcome: "changed", path, to: null };
    }
  }
  await writeRows(io, COLUMNS, changed(), flags);
  say(
    io,
    `Checked ${counted(counts.files, "file")} (${sized(counts.bytes)}) in ${lasting(io.monotonicMs() - startedMs)}: ` +
      (counts.changed === 0
        ? "every file is byte for byte what was stored."
        : `${grouped(counts.changed)} changed.`),
  );
  return counts.changed === 0 ? 0 : 6;
}

/** A table, or nothing at all when there is nothing to show to people. */
async function writeRows(
  io: Io,
  columns: readonly string[],
  rows: AsyncGenerator<Row>,
  flags: TableFlags,
): Promise<void> {
  const first = await rows.next();
  const plain = flags.format === undefined || flags.format === "table";
  if (first.done && plain && flags.fields === undefined) return;
  async function* all(): AsyncIterable<Row> {
    if (!first.done) yield first.value;
    yield* rows;
  }
  await writeTable(io, { columns, rows: all() }, flags);
}

async function verifyFolder(dir: string, flags: Flags, running: Running): Promise<number> {
  const { io, signal } = running;
  const library = await io.library();
  const progress = createProgress(io, flags.json ? "silent" : (flags.progress ?? "auto"));
  const run = library.verify(dir, {
    signal,
    strict: flags.strict === true,
    ...(flags.jobs === undefined ? {} : { jobs: flags.jobs }),
  });
  try {
    if (flags.json) {
      const writer = createWriter(io.stdout);
      for await (const event of run) {
        await writer.write(
          `${JSON.stringify({ v: library.EVENTS_VERSION, t: io.now().toISOString(), ...event })}\n`,
        );
        await writer.flush();
      }
    } else {
      await writeFindings(running, run, flags, (event) => {
        // Each finding is a row of the table: once is enough.
        if (event.type !== "item-damaged") progress.event(event);
      });
    }
    const summary = await run.result;
    progress.close();
    if (summary.error !== null) {
      throw new library.RunError(
        summary.error.code as ConstructorParameters<typeof library.RunError>[0],
        summary.error.message,
        {
          hint: summary.error.hint,
        },
      );
    }
    if (!flags.json) say(io, ...summaryLines(summary, dir));
    return summary.exit;
  } finally {
    progress.close();
  }
}

const COLUMNS = ["outcome", "path", "to"] as const;

/** The table of what is not as it was; nothing at all when all is well on a terminal. */
async function writeFindings(
  { io }: Running,
  events: AsyncIterable<RunEvent>,
  flags: TableFlags,
  see: (event: RunEvent) => void,
): Promise<void> {
  async function* findings(): AsyncGenerator<Row> {
    for await (const event of events) {
      see(event);
      if (event.type !== "file-checked" || event.outcome === "ok") continue;
      yield { outcome: event.outcome, path: event.path, to: event.to ?? null };
    }
  }
  await writeRows(io, COLUMNS, findings(), flags);
}

function summaryLines(summary: VerifySummary, dir: string): string[] {
  const { ok, changed, missing, moved, extra } = summary;
  const lines =
    summary.items === 0
      ? [
          `Nothing is stored in ${shown(dir)}, and nothing is expected there, so nothing was proved. Why: gantry status ${shellWord(dir)}`,
        ]
      : [
          `${changed + missing === 0 ? "Proved" : "Checked"} ${counted(summary.files, "file")} of ${counted(summary.items, "item")} (${sized(summary.bytes)}) in ${lasting(summary.tookMs)}.`,
        ];
  if (changed + missing === 0 && summary.files > 0) {
    lines.push("Every file is byte for byte what was stored.");
  } else {
    const parts = [`${grouped(ok)} as stored`];
    if (changed > 0) parts.push(`${grouped(changed)} changed`);
    if (missing > 0) parts.push(`${grouped(missing)} missing`);
    if (summary.files > 0) lines.push(`${parts.join(", ")}.`);
  }
  if (moved > 0) lines.push(`${counted(moved, "file")} moved or renamed, with the right content.`);
  if (extra > 0) lines.push(`${counted(extra, "file")} that no receipt knows.`);
  if (changed + missing > 0) lines.push(`To mend it: gantry get -o ${shellWord(dir)}`);
  return lines;
}

/** 6 when a file differs or is not there, 7 when only some could not be read, 2 when only lines were bad. */
async function verifySums(
  list: string,
  folder: string | undefined,
  flags: Flags,
  running: Running,
): Promise<number> {
  const { io, signal } = running;
  const { checkSums } = await io.library();
  const progress = createProgress(io, flags.json ? "silent" : (flags.progress ?? "auto"), "file");
  const counts = { ok: 0, mismatch: 0, missing: 0, unreadable: 0, bad: 0, bytes: 0 };
  const startedMs = io.monotonicMs();
  async function* findings(): AsyncGenerator<Row> {
    const results = checkSums({
      list,
      signal,
      ...(folder === undefined ? {} : { folder }),
      ...(flags.jobs === undefined ? {} : { jobs: flags.jobs }),
      onProgress: (p) =>
        progress.event({
          type: "progress",
          doneItems: p.doneFiles,
          totalItems: p.totalFiles,
          failedItems: counts.mismatch + counts.missing + counts.unreadable,
          doneBytes: p.doneBytes,
          totalBytes: p.totalBytes,
          receivedBytes: 0,
          bytesPerSecond: p.bytesPerSecond,
          etaSeconds: p.etaSeconds,
          idleSeconds: 0,
          active: [],
        }),
    });
    for await (const result of results) {
      if (result.outcome === "BAD LINE") {
        counts.bad++;
        yield {
          outcome: "bad line",
          path: null,
          line: result.line,
          expected: null,
          actual: null,
          why: result.why,
        };
        continue;
      }
      counts.bytes += result.sizeBytes ?? 0;
      if (result.outcome === "OK") counts.ok++;
      else {
        const key =
          result.outcome === "MISMATCH"
            ? "mismatch"
            : result.outcome === "NOT FOUND"
              ? "missing"
              : "unreadable";
        counts[key]++;
        const outcome = { mismatch: "changed", missing: "missing", unreadable: "unreadable" }[key];
        const why = isRunError(result.error) ? result.error.message : null;
        yield {
          outcome,
          path: result.path,
          line: result.line,
          expected: result.expected,
          actual: result.actual,
          why,
        };
      }
    }
  }
  try {
    const rows = findings();
    const first = await rows.next();
    const quiet = first.done && (flags.format === undefined || flags.format === "table");
    if (!quiet) {
      async function* all(): AsyncIterable<Row> {
        if (!first.done) yield first.value;
        yield* rows;
      }
      await writeTable(
        io,
        { columns: ["outcome", "path", "line", "expected", "actual", "why"], rows: all() },
        flags,
      );
    }
  } finally {
    progress.close();
  }
  const files = counts.ok + counts.mismatch + counts.missing + counts.unreadable;
  const parts = [`${grouped(counts.ok)} right`];
  if (counts.mismatch > 0) parts.push(`${grouped(counts.mismatch)} changed`);
  if (counts.missing > 0) parts.push(`${grouped(counts.missing)} missing`);
  if (counts.unreadable > 0) parts.push(`${grouped(counts.unreadable)} unreadable`);
  if (counts.bad > 0) parts.push(counted(counts.bad, "bad line"));
  say(
    io,
    `Checked ${counted(files, "file")} (${sized(counts.bytes)}) in ${lasting(io.monotonicMs() - startedMs)}: ${parts.join(", ")}.`,
  );
  if (counts.mismatch + counts.missing > 0) return 6;
  if (counts.unreadable > 0) return 7;
  return counts.bad > 0 ? 2 : 0;
}
