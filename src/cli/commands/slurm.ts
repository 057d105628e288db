import { basename, resolve } from "node:path";
import type { Running } from "../command.ts";
import { type Call, defineCommand, shellWord, UsageError, wholeNumber } from "../command.ts";
import type { Io } from "../io.ts";
import type { ArrayPart, RunEvent } from "../library.ts";
import { createWriter, say } from "../render/writer.ts";
import { GET_FLAGS, type GetFlags, runGet } from "./get.ts";

interface Flags extends GetFlags {
  readonly tasks?: number;
  readonly sbatchOpt?: readonly string[];
  readonly array?: string;
  readonly task?: number;
  readonly job?: string;
  readonly known?: boolean;
}

const JOB = "As a job array:";

export const command = defineCommand<Flags>({
  words: "<submit|resume|plan|task|finish> [words...]",
  about:
    "Runs a get as a Slurm job array: plans once, queues tasks that share the plan, and a last job that proves that all is there. `resume DIR` does it again for what is missing. `plan`, `task` and `finish` are what the script runs.",
  flags: [
    {
      flags: "--tasks <n>",
      help: "how many tasks (default: 8)",
      parse: wholeNumber("--tasks", 1, 1000),
      group: JOB,
    },
    {
      flags: "--sbatch-opt <option>",
      help: "an option for sbatch, as --sbatch-opt=--partition=long; may be repeated",
      parse: (text, before) => [...((before as string[] | undefined) ?? []), sbatchOption(text)],
      group: JOB,
    },
    { flags: "--array <name>", help: "task, finish: which array", group: JOB },
    { flags: "--task <n>", help: "task: its number", parse: wholeNumber("--task", 0), group: JOB },
    { flags: "--known", help: "plan: what the folder knows, asking no archive", hidden: true },
    { flags: "--job <words>", help: "plan: how it was submitted", hidden: true },
    ...GET_FLAGS,
  ],
  examples: [
    ["gantry slurm submit tcia:LCTSC -o lctsc --tasks 8", "plan, queue the tasks and their end"],
    [
      "gantry slurm submit tcia:LCTSC -o lctsc --tasks 8 --dry-run > lctsc.sh",
      "the script alone: sbatch lctsc.sh",
    ],
    ["gantry slurm submit tcia:LCTSC -o lctsc --sbatch-opt=--partition=transfer", "where the network is"],
    ["gantry slurm resume lctsc", "again, for what is missing"],
  ],
  async run(call, running) {
    const [action, ...words] = call.words;
    const { flags } = call;
    for (const name of ["json", "detach", "format"] as const) {
      if (flags[name] !== undefined)
        throw new UsageError(`--${name} is not for job arrays`, "look on with `gantry status DIR --watch`");
    }
    switch (action) {
      case "submit":
        return submit(call, running, words, targetOf(flags));
      case "resume":
        return submit(call, running, [], oneFolder(words, "resume"));
      case "plan":
        return plan(call, running, words);
      case "task":
      case "finish":
        return work(call, running, action, oneFolder(words, action));
      default:
        throw new UsageError(
          `gantry slurm can submit, resume, plan, task and finish, not ${JSON.stringify(action)}`,
          "for example: gantry slurm submit tcia:LCTSC -o lctsc --tasks 8",
        );
    }
  },
});

/** What the script itself says, or what would make a job of another kind. */
const TAKEN = /^(-a|--array|-d|--dependency|--wrap|--parsable|--test-only|-W|--wait)(?=$|[=\d ])/u;

/** As it is written for sbatch. Throws `UsageError`. */
function sbatchOption(text: string): string {
  if (!/^-\S/u.test(text) || /[\r\n\0]/u.test(text))
    throw new UsageError(
      `${JSON.stringify(text)} is no option of sbatch`,
      "write it as sbatch takes it: --sbatch-opt=--partition=long",
    );
  const taken = TAKEN.exec(text)?.[1];
  if (taken !== undefined)
    throw new UsageError(`sbatch's ${taken} is for gantry to set`, "say how many tasks with --tasks");
  return text;
}

function targetOf({ output }: Flags): string {
  if (output === undefined || output === "")
    throw new UsageError("there is no folder to download to", "say where with -o DIR");
  return output;
}

function oneFolder(words: readonly string[], action: string): string {
  const [dir, ...more] = words;
  if (dir === undefined || more.length > 0) throw new UsageError(`that is: gantry slurm ${action} DIR`);
  return dir;
}

const DEFAULT_TASKS = 8;

/** An ascp site, without a password in it. */
const SITE = /^aspera:\/\/(?![^/@]*:[^/@]*@)/iu;

/** Writes the script and runs it, or only shows it. */
async function submit(
  call: Call<Flags>,
  running: Running,
  words: readonly string[],
  dir: string,
): Promise<number> {
  const { io } = running;
  const { flags } = call;
  if (words.some((word) => word.includes("://") && !SITE.test(word))) {
    throw new UsageError(
      "a link may be a key, and a script keeps what it is given",
      "write it into a file, one a line, and name that as @FILE",
    );
  }
  if (words.includes("-"))
    throw new UsageError(
      "a job can't read a selection from standard input",
      "save it with `gantry find - --save FILE`",
    );
  const known = call.words[0] === "resume" || words.length > 0;
  if (!known && !(await (await io.system()).isFile(`${dir}/.gantry/folder.json`)))
    throw new UsageError(
      "what is to be fetched?",
      `gantry slurm submit tcia:LCTSC -o ${shellWord(dir)}; what is missing: gantry slurm resume ${shellWord(dir)}`,
    );
  const library = await io.library();
  const again = words.length === 0 ? await library.readArrayJob(dir) : null;
  const before = JSON.parse(again?.[0] ?? "{}") as Partial<Job>;
  const job: Job = {
    tasks: flags.tasks ?? before.tasks ?? DEFAULT_TASKS,
    sbatch: flags.sbatchOpt ?? before.sbatch ?? [],
    jobs: flags.jobs ?? before.jobs ?? null,
    bandwidth: flags.bandwidth ?? before.bandwidth ?? null,
    further: furtherOf(flags).length > 0 ? furtherOf(flags) : (before.further ?? []),
    finish: finishOf(flags).length > 0 ? finishOf(flags) : (before.finish ?? []),
  };
  // One budget for all tasks: each has its share of requests and of the rate, and no more run at once than have one.
  const jobs = job.jobs ?? job.tasks;
  const atOnce = Math.min(job.tasks, jobs);
  const share = ["--jobs", String(Math.floor(jobs / atOnce))];
  if (job.bandwidth !== null)
    share.push("--bandwidth", `${Math.max(1, Math.floor(library.parseRate(job.bandwidth) / atOnce))}B/s`);
  const { buildScript, namesOutput } = await import("../../slurm/script.ts");
  // It takes such a name for a pattern, and starts no job whose log it can't open.
  if (resolve(io.cwd, dir).includes("\\") && !namesOutput(job.sbatch))
    throw new UsageError(
      `Slurm can't write logs into ${JSON.stringify(dir)}: there is a backslash in its path`,
      "use another folder, or say where the logs go with --sbatch-opt=--output=FILE",
    );
  const resume = call.words[0] === "resume";
  const script = buildScript({
    title: resume ? `What is missing in ${dir}` : `${words.map(shellWord).join(" ")} into ${dir}`,
    version: library.VERSION,
    name: `gantry-${basename(resolve(io.cwd, dir)).replace(/[^A-Za-z0-9_.-]/gu, "_")}`,
    cwd: io.cwd,
    dir: resolve(io.cwd, dir),
    program: io.program.map((word, index) =>
      index > 0 && word.endsWith(".js") ? resolve(io.cwd, word) : word,
    ),
    plan: planArguments(call, dir, job),
    task: [...share, ...job.further],
    finish: [...share, ...job.further, ...job.finish],
    atOnce,
    environment: environmentOf(io),
    sbatch: job.sbatch,
  });
  if (flags.dryRun) {
    const writer = createWriter(io.stdout);
    await writer.write(script);
    await writer.flush();
    return 0;
  }
  const system = await io.system();
  const folder = await system.makeTemporaryFolder();
  try {
    const path = `${folder}/job.sh`;
    await system.writeText(path, script, 0o700);
    running.onInterrupt(null);
    const child = system.run(["bash", path], io.env);
    running.signal.addEventListener("abort", () => child.kill("SIGTERM"));
    return await child.status;
  } finally {
    await system.remove(folder);
  }
}

/** How an array was submitted; kept with its plan for `resume`. */
interface Job {
  readonly tasks: number;
  readonly sbatch: readonly string[];
  readonly jobs: number | null;
  readonly bandwidth: string | null;
  /** Arguments of every task. */
  readonly further: readonly string[];
  /** Further ones of the end. */
  readonly finish: readonly string[];
}

function furtherOf(flags: Flags): string[] {
  const { retries, stallTimeout, scratch, logDir, pack, shardSize, webdataset, checksums } = flags;
  const { ascp, key, resumeLevel, policy, decrypt, transport, ascpOpt } = flags;
  const words: string[] = [];
  if (ascp !== undefined) words.push("--ascp", ascp);
  if (key !== undefined) words.push("--key", key);
  if (resumeLevel !== undefined) words.push("--resume-level", resumeLevel);
  if (policy !== undefined) words.push("--policy", policy);
  if (decrypt) words.push("--decrypt");
  if (transport !== undefined) words.push("--transport", transport);
  for (const option of ascpOpt ?? []) words.push(`--ascp-opt=${option}`);
  if (pack !== undefined) words.push("--pack", pack);
  if (shardSize !== undefined) words.push("--shard-size", `${shardSize}B`);
  if (webdataset) words.push("--webdataset");
  if (checksums !== undefined) words.push("--checksums", checksums);
  if (retries !== undefined) words.push("--retries", String(retries));
  if (stallTimeout !== undefined) words.push("--stall-timeout", stallTimeout);
  if (scratch !== undefined) words.push("--scratch", scratch);
  if (logDir !== undefined) words.push("--log-dir", logDir);
  return words;
}

function finishOf({ prune, withIntended, bidsignore, notify, notifyEvery }: Flags): string[] {
  const words: string[] = [];
  if (withIntended) words.push("--with-intended");
  if (bidsignore) words.push("--bidsignore");
  if (prune) words.push("--prune");
  if (notify !== undefined) words.push("--notify", notify);
  if (notify !== undefined && notifyEvery !== undefined) words.push("--notify-every", notifyEvery);
  return words;
}

/** The command line again, as the one that plans. What concerns tasks alone does no harm to it. */
function planArguments(call: Call<Flags>, dir: string, job: Job): string[] {
  const facts = ["--job", JSON.stringify(job)];
  if (call.words[0] === "resume")
    return ["slurm", "plan", "--known", "-o", dir, "--tasks", String(job.tasks), ...facts];
  const at = call.argv.indexOf("submit");
  const rest = call.argv.slice(at + 1).filter((word) => word !== "--dry-run");
  return ["slurm", "plan", ...call.argv.slice(1, at), ...rest, ...facts];
}

const CARRIED = [
  "GANTRY_CONFIG",
  "GANTRY_CACHE_DIR",
  "GANTRY_ASCP",
  "XDG_CONFIG_HOME",
  "XDG_CACHE_HOME",
  "XDG_DATA_HOME",
  "HOME",
  "SSL_CERT_FILE",
  "NODE_EXTRA_CA_CERTS",
  ...["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"].flatMap((name) => [name, name.toLowerCase()]),
];

/** What a task needs of this environment; a proxy's address with a login is a secret and goes another way. */
function environmentOf({ env }: Io): Record<string, string> {
  return Object.fromEntries(
    CARRIED.flatMap((name) => {
      const value = env[name];
      return value === undefined || value === "" || (/_PROXY$/iu.test(name) && value.includes("@"))
        ? []
        : [[name, value]];
    }),
  );
}

/** Plans, and prints the array and how many of its tasks have something to do. */
async function plan(call: Call<Flags>, running: Running, words: readonly string[]): Promise<number> {
  const { io } = running;
  const { flags } = call;
  const library = await io.library();
  const tasks = flags.tasks ?? DEFAULT_TASKS;
  const part: ArrayPart = {
    part: "plan",
    tasks,
    known: flags.known === true,
    job: flags.job === undefined ? [] : [flags.job],
  };
  const seen: { divided: Extract<RunEvent, { type: "divided" }> | null } = { divided: null };
  // It fetches nothing, and the scratch disk is the nodes'.
  const { scratch: _, ...planning } = flags;
  const status = await runGet({ ...call, words, flags: planning }, running, (gantry, asked, options) => {
    const run = gantry.get(asked, { ...options, array: part });
    return watched(run, (event) => {
      if (event.type === "divided") seen.divided = event;
    });
  });
  const { divided } = seen;
  if (divided === null) return status;
  const { array, slices } = divided;
  await library.writeArrayEnvironment(targetOf(flags), array, io.env);
  const writer = createWriter(io.stdout);
  await writer.write(`${array} ${Math.min(tasks, slices)}\n`);
  await writer.flush();
  return 0;
}

/** A folder as this node calls it: `$TMPDIR`, `/scratch/${SLURM_JOB_ID}`. Throws `UsageError`. */
function onNode(folder: string, env: Io["env"]): string {
  return folder.replace(/\$(?:(\w+)|\{(\w+)\})/gu, (_, bare: string, braced: string) => {
    const name = bare ?? braced;
    const value = env[name];
    if (value === undefined || value === "")
      throw new UsageError(
        `--scratch names $${name}, which is not set here`,
        "name a folder that every node has",
      );
    return value;
  });
}

/** A task of an array, or its end. */
async function work(
  call: Call<Flags>,
  running: Running,
  action: "task" | "finish",
  dir: string,
): Promise<number> {
  const { io } = running;
  const { array, task } = call.flags;
  if (array === undefined || (action === "task" && task === undefined)) {
    throw new UsageError(
      `gantry slurm ${action} needs ${action === "task" ? "--array NAME and --task N" : "--array NAME"}`,
      "the script that `gantry slurm submit --dry-run` shows runs it",
    );
  }
  const library = await io.library();
  const env = { ...(await library.readArrayEnvironment(dir, array)), ...io.env };
  const part: ArrayPart =
    action === "task" ? { part: "task", array, task: task ?? 0 } : { part: "finish", array };
  const scratch = call.flags.scratch === undefined ? {} : { scratch: onNode(call.flags.scratch, io.env) };
  const status = await runGet(
    { ...call, words: [], flags: { ...call.flags, ...scratch, output: dir } },
    { ...running, io: Object.create(io, { env: { value: env } }) as Io },
    (gantry, words, options) => gantry.get(words, { ...options, array: part }),
    `gantry slurm resume ${shellWord(dir)}`,
  );
  const job = io.env.SLURM_JOB_ID;
  if (running.interruptedBy() === "SIGUSR1" && job !== undefined) {
    say(io, "The time of this job is nearly over: it is queued again.");
    const requeued = await (await io.system()).run(["scontrol", "requeue", job], io.env).status;
    if (requeued !== 0)
      say(io, `scontrol requeue ${job} failed; \`gantry slurm resume ${shellWord(dir)}\` goes on.`);
  }
  return status;
}

/** The same run, with somebody who sees its events first. */
function watched<R extends AsyncIterable<RunEvent>>(
  run: R & { result: Promise<unknown> },
  see: (event: RunEvent) => void,
): R {
  async function* events(): AsyncGenerator<RunEvent> {
    for await (const event of run) {
      see(event);
      yield event;
    }
  }
  return { result: run.result, [Symbol.asyncIterator]: events } as unknown as R;
}
