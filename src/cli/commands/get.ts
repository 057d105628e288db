import { ASCP_FLAGS, type AscpFlags, ascpChoices } from "../ascp-flags.ts";
import { CACHE_FLAGS, type CacheFlags, cacheOptions } from "../cache.ts";
import {
  type Call,
  defineCommand,
  type Flag,
  parseJobs,
  parseSize,
  type Running,
  shellWord,
  UsageError,
  WEBDATASET_DIGITS,
  wholeNumber,
} from "../command.ts";
import { FILTER_FLAGS, readFilters } from "../filters.ts";
import { canAsk, type Io } from "../io.ts";
import type { Gantry, GetOptions, Library, RunEvent } from "../library.ts";
import { withGantry } from "../open-library.ts";
import { writePlan } from "../render/forecast.ts";
import { createProgress, PROGRESS_MODES, type ProgressMode } from "../render/progress.ts";
import { createTale } from "../render/summary.ts";
import { TABLE_FLAGS, type TableFlags } from "../render/table.ts";
import { createWriter, OutputClosed, say, type Writer } from "../render/writer.ts";

export interface GetFlags extends TableFlags, CacheFlags, AscpFlags {
  readonly output?: string;
  readonly layout?: string;
  readonly pack?: string;
  readonly shardSize?: number;
  readonly webdataset?: boolean;
  readonly jobs?: number;
  readonly bandwidth?: string;
  readonly retries?: number;
  readonly stallTimeout?: string;
  readonly dryRun?: boolean;
  readonly scratch?: string;
  readonly recheck?: boolean;
  readonly replace?: boolean;
  readonly skipBad?: boolean;
  readonly prune?: boolean;
  readonly checksums?: string;
  readonly withIntended?: boolean;
  readonly bidsignore?: boolean;
  readonly detach?: boolean;
  readonly detached?: boolean;
  readonly notify?: string;
  readonly notifyEvery?: string;
  readonly progress?: ProgressMode;
  readonly logDir?: string;
  readonly json?: boolean;
}

const WHAT = "What to do:";
const HOW = "How to fetch:";
const TELL = "What is said:";

export const GET_FLAGS: readonly Flag[] = [
  { flags: "-o, --output <dir>", help: "the folder to fill; a terminal asks when it is left out" },
  {
    flags: "--layout <layout>",
    help: "descriptive, classic, uid, flat or a '{template}'; fixed by a folder's first get",
    group: WHAT,
  },
  {
    flags: "--pack <format>",
    help: "one archive file instead of loose files; fixed by a folder's first get",
    choices: ["tar.zst", "tar.xz", "tar"],
    group: WHAT,
  },
  {
    flags: "--shard-size <size>",
    help: "with --pack: begin another archive file when one has grown so large, e.g. 2GB",
    parse: parseSize,
    group: WHAT,
  },
  {
    flags: "--webdataset",
    help: "with --shard-size: number the archive files as WebDataset does, NAME-000000.tar",
    group: WHAT,
  },
  {
    flags: "--dry-run",
    help: "only show what would move: items, files, bytes, inodes, time, free space, quota, licences",
    group: WHAT,
  },
  { flags: "--recheck", help: "hash everything that is here already", group: WHAT },
  {
    flags: "--replace",
    help: "this selection takes the place of all earlier ones of the folder",
    group: WHAT,
  },
  { flags: "--skip-bad", help: "go on when a line of a selection can't be read", group: WHAT },
  { flags: "--prune", help: "move files that no selection knows to .gantry/quarantine", group: WHAT },
  {
    flags: "--checksums <file>",
    help: "prove each file by this published list, too: md5sum's form, or git-annex keys with paths",
    group: WHAT,
  },
  {
    flags: "--with-intended",
    help: "fetch the images that field maps here are for (BIDS IntendedFor), too",
    group: WHAT,
  },
  {
    flags: "--bidsignore",
    help: "keep a .bidsignore for what the archive itself has against BIDS",
    group: WHAT,
  },
  { flags: "--jobs <n>", help: "how many items at once", parse: parseJobs, group: HOW },
  { flags: "--bandwidth <rate>", help: "at most so fast, with its unit: 100Mbps, 12MB/s", group: HOW },
  { flags: "--retries <n>", help: "how often to try again", parse: wholeNumber("--retries", 0), group: HOW },
  { flags: "--stall-timeout <seconds>", help: "give up a connection that is silent for so long", group: HOW },
  { flags: "--scratch <dir>", help: "keep unfinished data here, e.g. on a fast local disk", group: HOW },
  { flags: "--detach", help: "go on in the background, also after logout", group: HOW },
  {
    flags: "--notify <command|url>",
    help: "tell when it has finished, failed or stalled (JSON)",
    group: TELL,
  },
  { flags: "--notify-every <time>", help: "and tell how far it is, e.g. every 1h", group: TELL },
  {
    flags: "--progress <mode>",
    help: "how progress is shown (default: auto)",
    choices: PROGRESS_MODES,
    group: TELL,
  },
  { flags: "--log-dir <dir>", help: "where logs go (default: DIR/.gantry/logs)", group: TELL },
  { flags: "--json", help: "print events to stdout, one a line", group: TELL },
  { flags: "--detached", help: "this is the background part of --detach", hidden: true },
  ...ASCP_FLAGS,
  ...TABLE_FLAGS,
  ...FILTER_FLAGS,
  ...CACHE_FLAGS,
];

export const command = defineCommand<GetFlags>({
  words: "[address] [path...]",
  about:
    "Downloads what is named, proves every file and resumes after anything. With only -o DIR it finishes or refreshes all that was ever asked for in DIR.",
  flags: GET_FLAGS,
  examples: [
    ["gantry get tcia:LCTSC -o lctsc", "a whole collection"],
    ["gantry get cart.tcia -o data --dry-run", "what a manifest from the website would take"],
    ["gantry get tcia:LIDC-IDRI --modality CT --limit-patients 5 -o lidc", "a small part, to try"],
    ["gantry get tcia:LCTSC -o packed --pack tar.zst", "into one archive file"],
    ["gantry get -o lctsc", "go on where it stopped, or look for news"],
    ["gantry get tcia:NSCLC-Radiomics -o nsclc --detach --notify 'mail -s gantry me'", "overnight"],
  ],
  run: (call, running) => runGet(call, running, (gantry, words, options) => gantry.get(words, options)),
});

/**
 * Fetches into a folder and shows how: the events of the run that `begin` starts go to screen, log and notifier.
 * `resume`: what to type to go on; default: a get of the folder.
 */
export async function runGet(
  call: Call<GetFlags>,
  running: Running,
  begin: (gantry: Gantry, words: readonly string[], options: GetOptions) => ReturnType<Gantry["get"]>,
  resume?: string,
): Promise<number> {
  const { io } = running;
  const { words, flags } = call;
  const filters = readFilters(flags);
  const library = await io.library();
  const settings = readSettings(flags, library);
  const dir = await chooseFolder(flags.output, io);
  if (flags.detach) return detach(call, running, dir);

  const tale = createTale();
  const progress = createProgress(
    io,
    flags.json ? "silent" : flags.dryRun ? "none" : (flags.progress ?? "auto"),
  );
  // One redactor for all: what the library learns as a secret, the log knows as one, too.
  const redactor = library.createRedactor();
  for (const secret of secretsOf(io.env)) redactor.add(secret);
  const hide = linkHider(library);
  for (const word of call.words) if (hide(word) !== word) redactor.add(word);
  const redact = (text: string): string => redactor.redact(text);
  const logbook = flags.dryRun
    ? null
    : await library.openLogbook({
        dir: flags.logDir ?? `${dir}/.gantry/logs`,
        // Nothing is written into a folder that the run may yet refuse.
        early: flags.logDir !== undefined,
        redact,
        onWarning: (message) => progress.event({ type: "warning", message }),
      });
  logbook?.log("info", "command line", { argv: call.argv.map(hide) });
  const notifier =
    flags.notify === undefined || flags.dryRun
      ? null
      : library.createNotifier({
          target: flags.notify,
          environment: io.env,
          redact,
          ...(settings.notifyEveryMs === undefined ? {} : { everyMs: settings.notifyEveryMs }),
          onWarning: (message) => see({ type: "warning", message }),
        });
  let events = flags.json ? createWriter(io.stdout) : null;
  let planned: Extract<RunEvent, { type: "planned" }> | null = null;
  const see = (event: RunEvent): void => {
    progress.event(event);
    tale.event(event);
    logbook?.event(event);
    notifier?.event(event);
  };
  running.onInterrupt(
    "Stopping: nothing new begins, what is under way is put in order. Ctrl-C again leaves at once.",
  );
  try {
    return await withGantry(
      running,
      async (gantry) => {
        const { jobs, layout, scratch, pack, shardSize } = flags;
        const run = begin(gantry, words, {
          dir,
          filters,
          ...(jobs === undefined ? {} : { jobs }),
          ...(layout === undefined ? {} : { layout }),
          ...(scratch === undefined ? {} : { scratch }),
          ...(pack === undefined ? {} : { pack }),
          ...(shardSize === undefined ? {} : { shardBytes: shardSize }),
          ...(flags.webdataset ? { shardDigits: WEBDATASET_DIGITS } : {}),
          dryRun: flags.dryRun === true,
          recheck: flags.recheck === true,
          replace: flags.replace === true,
          skipBad: flags.skipBad === true,
          prune: flags.prune === true,
          ...(flags.checksums === undefined ? {} : { checksums: flags.checksums }),
          withReferences: flags.withIntended === true,
          ...(flags.bidsignore === true ? { extras: ["bidsignore"] } : {}),
          detached: flags.detached === true,
        });
        for await (const event of run) {
          see(event);
          if (events !== null && !(await writeEvent(events, event, library.EVENTS_VERSION, io)))
            events = null;
          if (event.type === "planned") planned = event;
        }
        const summary = await run.result;
        progress.close();
        await notifier?.close();
        const log = logbook?.path ?? null;
        await logbook?.close();
        if (flags.dryRun) {
          if (planned !== null && !flags.json) {
            await writePlan(io, planned, flags);
            say(io, ...tale.wouldFail(summary), "Nothing was downloaded (--dry-run).");
          }
          if (summary.error !== null) throw errorOf(library, summary.error);
          return summary.exit;
        }
        // A run that never began has no story: what was wrong is all there is to say.
        if (planned === null && summary.error !== null && summary.exit !== 130 && summary.exit !== 143) {
          throw errorOf(library, summary.error);
        }
        const again = planned === null ? resumeSame(call, dir) : `gantry get -o ${shellWord(dir)}`;
        if (!flags.json) say(io, ...tale.lines(summary, { dir, log, resume: resume ?? again }));
        return summary.exit;
      },
      {
        redactor,
        ...ascpChoices(flags),
        ...cacheOptions(flags, running),
        ...(logbook === null ? {} : { log: logbook.log }),
        ...(settings.retries === undefined ? {} : { retries: settings.retries }),
        ...(settings.stallTimeoutMs === undefined ? {} : { stallTimeoutMs: settings.stallTimeoutMs }),
        ...(settings.bandwidth === undefined ? {} : { bandwidthBytesPerSecond: settings.bandwidth }),
        ...(flags.jobs === undefined ? {} : { jobs: flags.jobs }),
      },
    );
  } finally {
    progress.close();
    await notifier?.close();
    await logbook?.close();
  }
}

/** False when the reader has gone: the download goes on without it, since exit 0 means that all is stored. */
async function writeEvent(writer: Writer, event: RunEvent, version: number, io: Io): Promise<boolean> {
  try {
    await writer.write(`${JSON.stringify({ v: version, t: io.now().toISOString(), ...event })}\n`);
    await writer.flush();
    return true;
  } catch (error) {
    if (error instanceof OutputClosed) return false;
    throw error;
  }
}

const errorOf = (
  library: Library,
  error: { code: ConstructorParameters<Library["RunError"]>[0]; message: string; hint: string },
) => new library.RunError(error.code, error.message, { hint: error.hint });

function readSettings(flags: GetFlags, library: Library) {
  if (flags.notifyEvery !== undefined && flags.notify === undefined) {
    throw new UsageError(
      "--notify-every needs --notify",
      "say whom to tell: --notify COMMAND or --notify URL",
    );
  }
  if (flags.detach && flags.dryRun)
    throw new UsageError("--dry-run has nothing to do in the background", "leave out --detach");
  if (flags.shardSize !== undefined && flags.pack === undefined)
    throw new UsageError("--shard-size is of archive files", "say which with --pack tar.zst");
  if (flags.webdataset && flags.shardSize === undefined)
    throw new UsageError("--webdataset numbers several archive files", "say how large with --shard-size 2GB");
  if (flags.json && flags.format !== undefined) {
    throw new UsageError("--json prints events, and --format a table", "use one of them");
  }
  return {
    bandwidth: flags.bandwidth === undefined ? undefined : library.parseRate(flags.bandwidth),
    retries: flags.retries,
    stallTimeoutMs: flags.stallTimeout === undefined ? undefined : readStall(flags.stallTimeout, library),
    notifyEveryMs: flags.notifyEvery === undefined ? undefined : library.parseDuration(flags.notifyEvery),
  };
}

function readStall(text: string, library: Library): number {
  const ms = library.parseDuration(text, { bareUnit: "s" });
  // Zero would mean for ever to the HTTP client, and no pause at all to whoever types it.
  if (ms === 0) throw new UsageError("--stall-timeout must be longer than 0", "write it as in 60 or 5m");
  return ms;
}

const ARCHIVE_FILE = /\.(tar|tar\.(zst|xz|gz|bz2)|tgz|txz|tzst|zip)$/i;

/** The target folder; a terminal is asked for it. Throws `UsageError`. */
async function chooseFolder(output: string | undefined, io: Io): Promise<string> {
  let dir = output;
  if (dir === undefined) {
    if (!canAsk(io)) throw new UsageError("there is no folder to download to", "say where with -o DIR");
    const answer = await (await io.system()).ask("Folder to download to (Enter = here): ");
    if (answer === null) throw new UsageError("there is no folder to download to", "say where with -o DIR");
    dir = answer.trim() === "" ? "." : answer.trim();
  }
  if (dir === "") throw new UsageError("-o needs the name of a folder");
  if (ARCHIVE_FILE.test(dir)) {
    throw new UsageError(
      `-o names a folder, and ${JSON.stringify(dir)} looks like an archive file`,
      `name a folder; for one archive file in it: gantry get … -o ${shellWord(folderOf(dir))} --pack ${packOf(dir)}`,
    );
  }
  return dir === "/" ? dir : dir.replace(/\/+$/, "");
}

const folderOf = (file: string): string => file.replace(ARCHIVE_FILE, "") || "DIR";
const packOf = (file: string): string =>
  /\.(tar|tar\.zst|tar\.xz)$/i.exec(file)?.[1]?.toLowerCase() ?? (/xz$/i.test(file) ? "tar.xz" : "tar.zst");

/** The command line again, unless it holds a link, which may be a secret. */
function resumeSame(call: Call<GetFlags>, dir: string): string {
  if (call.words.some((word) => word.includes("://"))) return "the same command again";
  const asked = call.flags.output === undefined ? ["-o", dir] : [];
  return ["gantry", ...call.argv, ...asked].map(shellWord).join(" ");
}

/** A word as others may read it: a link that is a secret becomes the name of what it opens. */
const linkHider =
  (library: Library) =>
  (word: string): string =>
    (word.includes("://") ? library.secretLinkName(word) : null) ?? word;

const SECRET = /^GANTRY_.+_(PASSWORD|TOKEN|API_KEY)$/;
const secretsOf = (env: Io["env"]): string[] =>
  Object.entries(env).flatMap(([name, value]) => (SECRET.test(name) && value ? [value] : []));

/** How long a background run is watched for a mistake that ends it at once. */
const WATCHED_MS = 1_500;

async function detach(call: Call<GetFlags>, running: Running, dir: string): Promise<number> {
  const { io } = running;
  if (call.words.includes("-")) {
    throw new UsageError(
      "a background run can't read a selection from standard input",
      "save it with `gantry find - --save FILE`, then get that file",
    );
  }
  const system = await io.system();
  if (await system.isFile(dir)) {
    throw new UsageError(`-o names a folder, and ${dir} is a file`, "name a folder");
  }
  const stamp = io.now().toISOString().slice(0, 19).replaceAll(":", "");
  const log = `${call.flags.logDir ?? `${dir}/.gantry/logs`}/detached-${stamp}Z.log`;
  const [first = ""] = call.words;
  const hide = linkHider(await io.library());
  const child = await system.detach([...io.program, ...detachedArguments(call, dir, hide)], {
    log,
    cwd: io.cwd,
    env: io.env,
    ...(hide(first) === first ? {} : { stdin: `${first}\n` }),
  });
  const watch = new AbortController();
  const status = await Promise.race([child.ended, io.sleep(WATCHED_MS, watch.signal).then(() => null)]);
  watch.abort();
  child.forget();
  if (status !== null && status !== 0) {
    say(
      io,
      await system.readTail(log, 20),
      `The background run ended at once with exit ${status}. Its log: ${log}`,
    );
    return status;
  }
  if (status === 0) {
    say(io, await system.readTail(log, 20), `The background run has finished already. Its log: ${log}`);
    return 0;
  }
  const word = shellWord(dir);
  say(
    io,
    `Running in the background as process ${child.pid}; you may log out.`,
    `  log      ${log}`,
    `  look on  gantry status ${word} --watch`,
    `  end it   gantry stop ${word}`,
  );
  return 0;
}

/**
 * The command line of the background part: the same, but it does not detach again and asks nothing. A link that is a
 * secret is not in it: the process reads it from standard input.
 */
export function detachedArguments(
  call: Call<GetFlags>,
  dir: string,
  hide: (word: string) => string = (word) => word,
): string[] {
  const argv = call.argv.map((word) => (hide(word) === word ? word : "-"));
  const end = argv.indexOf("--");
  const before = (end < 0 ? argv : argv.slice(0, end)).filter((word) => word !== "--detach");
  const added = ["--detached", ...(call.flags.output === undefined ? ["-o", dir] : [])];
  if (call.flags.progress === undefined) added.push("--progress", "plain");
  return [...before, ...added, ...(end < 0 ? [] : argv.slice(end))];
}
