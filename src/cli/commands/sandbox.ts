import { defineCommand, type Running, shellWord, UsageError, wholeNumber } from "../command.ts";
import type { Io } from "../io.ts";
import { counted, grouped, shown } from "../render/wording.ts";
import { createWriter, say } from "../render/writer.ts";

interface Flags {
  readonly port?: number;
  readonly data?: string;
  readonly seed?: number;
  readonly precompute?: boolean;
  readonly tls?: boolean;
}

type Sandbox = Awaited<ReturnType<typeof import("../../sandbox/server.ts")["startSandbox"]>>;

export const command = defineCommand<Flags>({
  words: "[command...]",
  about:
    "Serves stand-in archives on this machine, with generated phantoms or your own files. With a command (after --) it runs that against them, then stops and returns the command's exit status.",
  flags: [
    {
      flags: "--port <n>",
      help: "listen here (default: any free port)",
      parse: wholeNumber("--port", 0, 65_535),
    },
    { flags: "--data <dir>", help: "serve the DICOM files of this folder instead of the phantoms" },
    {
      flags: "--seed <n>",
      help: "another set of phantoms and of drawn faults",
      parse: wholeNumber("--seed", 0),
    },
    { flags: "--tls", help: "point at it over HTTPS, with an authority made for this start" },
    { flags: "--precompute", help: "build replies before they are asked for, for benchmarks" },
  ],
  examples: [
    ["gantry sandbox", "serve until Ctrl-C"],
    ["gantry sandbox -- gantry ls tcia:", "one command against it"],
    ["gantry sandbox --tls -- sh my-pipeline.sh", "over HTTPS, with an authority that only it trusts"],
    ["gantry sandbox --data ~/dicom -- sh my-pipeline.sh", "your own pipeline and data"],
  ],
  async run({ words, flags }, running) {
    const { startSandbox } = await import("../../sandbox/server.ts");
    let sandbox: Sandbox;
    try {
      sandbox = await startSandbox({
        ...(flags.port === undefined ? {} : { port: flags.port }),
        ...(flags.data === undefined ? {} : { dataDir: flags.data }),
        ...(flags.seed === undefined ? {} : { seed: flags.seed }),
        ...(flags.precompute ? { precompute: true } : {}),
        ...(flags.tls ? { tls: true } : {}),
      });
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === "EADDRINUSE")
        throw new UsageError(`port ${flags.port} is taken`, "leave out --port to get a free one");
      if (code === "EACCES" || code === "ENOENT" || code === "ENOTDIR") {
        throw new UsageError(`the sandbox can't start: ${(error as Error).message}`);
      }
      throw error;
    }
    try {
      if (flags.precompute) await sandbox.control.precompute();
      if (words.length === 0) return await serve(sandbox, running);
      // The command's output is its own: one line, and only where something of the user's is left out.
      const { problems } = flags.data === undefined ? { problems: [] } : await readDoor(sandbox);
      if (problems.length > 0)
        say(
          running.io,
          `gantry: the sandbox does not serve ${counted(problems.length, "file")} of ${shown(flags.data ?? "")}; $GANTRY_SANDBOX_URL/_sandbox/ says which and why`,
        );
      return await runInside(words, sandbox, running);
    } finally {
      await sandbox.close();
    }
  },
});

/** The archives as a client of this start is meant to reach them. */
const archivesOf = (sandbox: Sandbox): Sandbox["archives"] => sandbox.tls?.archives ?? sandbox.archives;

/** The configuration that makes the archives' names mean the sandbox. */
export const configOf = (archives: Sandbox["archives"]): string =>
  archives
    .map(
      ({ name, ...archive }) =>
        `[archives.${name}]\n${Object.entries({ kind: archive.kind, url: archive.url, ...archive.settings })
          .map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
          .join("")}`,
    )
    .join("\n");

async function runInside(words: readonly string[], sandbox: Sandbox, running: Running): Promise<number> {
  const { io, signal, onInterrupt } = running;
  const system = await io.system();
  const folder = await system.makeTemporaryFolder();
  // The command and its own end decide; a second signal still leaves at once.
  onInterrupt(null);
  try {
    const config = `${folder}/config.toml`;
    await system.writeText(config, configOf(archivesOf(sandbox)));
    await system.writeText(
      `${folder}/bin/gantry`,
      `#!/bin/sh\nexec ${io.program.map(shellWord).join(" ")} "$@"\n`,
      0o755,
    );
    const child = system.run(words, {
      ...withoutAccounts(io.env),
      ...sandbox.environment,
      GANTRY_CONFIG: config,
      GANTRY_SANDBOX_URL: sandbox.tls?.url ?? sandbox.url,
      ...(await linkVariables(sandbox)),
      PATH: `${folder}/bin:${io.env.PATH ?? ""}`,
    });
    const forward = (): void => {
      const by = (signal.reason as { code?: string }).code === "terminated" ? "SIGTERM" : "SIGINT";
      // A terminal has sent Ctrl-C to the command already; a second one would mean "leave at once".
      if (by === "SIGTERM" || io.stdin.isTTY !== true) child.kill(by);
    };
    signal.addEventListener("abort", forward, { once: true });
    const status = await child.status;
    signal.removeEventListener("abort", forward);
    if (status === 127) say(io, `gantry: the sandbox could not run ${shown(words[0]!)}`);
    return status;
  } finally {
    await system.remove(folder);
  }
}

/** The link and the address that examples use; all others are at the door. */
async function linkVariables(sandbox: Sandbox): Promise<Record<string, string>> {
  const { package: link, site } = await sandbox.links();
  return {
    ...(link === undefined ? {} : { GANTRY_SANDBOX_LINK: link }),
    ...(site === undefined ? {} : { GANTRY_SANDBOX_SITE: site }),
  };
}

/** The caller's accounts are for the real archives: a stand-in, and its record of requests, must not see them. */
const withoutAccounts = (env: Io["env"]): Io["env"] =>
  Object.fromEntries(
    Object.entries(env).filter(
      ([name]) =>
        !/^(?:GANTRY_.+_(?:USER|PASSWORD|TOKEN|API_KEY)|ASPERA_SCP_(?:PASS|KEY|TOKEN|FILEPASS))$/u.test(name),
    ),
  );

interface Door {
  readonly collections: Readonly<Record<string, number>>;
  readonly problems: readonly { readonly path: string; readonly reason: string }[];
}

const PROBLEMS_SHOWN = 20;

async function serve(sandbox: Sandbox, { io, signal, onInterrupt }: Running): Promise<number> {
  onInterrupt("Stopping the sandbox.");
  const system = await io.system();
  const folder = await system.makeTemporaryFolder();
  try {
    const config = `${folder}/config.toml`;
    await system.writeText(config, configOf(archivesOf(sandbox)));
    const { collections, problems } = await readDoor(sandbox);
    const largest = Object.entries(collections).sort((a, b) => b[1] - a[1])[0]?.[0] ?? "COLLECTION";
    const segment = largest.replaceAll("%", "%25").replaceAll("/", "%2F");
    const name = sandbox.archives[0]?.name ?? "tcia";
    const { package: link } = await sandbox.links();
    const door = sandbox.url;
    const writer = createWriter(io.stdout);
    await writer.write(
      [
        `The sandbox serves at ${sandbox.url}${sandbox.tls ? ` and ${sandbox.tls.url}` : ""}`,
        "",
        "Archives",
        ...archivesOf(sandbox).map(
          (archive) => `  ${`${archive.name}:`.padEnd(12)} ${archive.kind.padEnd(8)} ${archive.url}`,
        ),
        "",
        "Collections",
        ...Object.entries(collections)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([collection, count]) => `  ${shown(collection).padEnd(28)} ${counted(count, "series")}`),
        "",
        "To use it from another terminal",
        `  export GANTRY_CONFIG=${shellWord(config)} NO_PROXY=127.0.0.1,localhost`,
        ...(sandbox.tls
          ? [
              "  export SSL_CERT_FILE NODE_EXTRA_CA_CERTS CURL_CA_BUNDLE REQUESTS_CA_BUNDLE",
              `  SSL_CERT_FILE=${shellWord(sandbox.tls.caFile)}`,
              "  NODE_EXTRA_CA_CERTS=$SSL_CERT_FILE CURL_CA_BUNDLE=$SSL_CERT_FILE REQUESTS_CA_BUNDLE=$SSL_CERT_FILE",
            ]
          : []),
        `  gantry ls ${name}:`,
        `  gantry get ${shellWord(`${name}:${segment}`)} -o try`,
        "  (its restricted data ask for user demo, password demo)",
        ...(link === undefined
          ? []
          : [
              "",
              "A package, by its link; the stand-in ascp",
              `  export GANTRY_ASCP=${shellWord(sandbox.ascp)} ASPERA_SCP_PASS=${sandbox.environment.ASPERA_SCP_PASS}`,
              `  gantry ls "$(curl -s ${door}/_sandbox/links/package)"`,
              `  (more links, and ascp sites, whose user demo that password is of: curl ${door}/_sandbox/links)`,
            ]),
        "",
        "The control door: faults, changes, requests seen",
        `  curl ${sandbox.url}/_sandbox/`,
        `  curl -d '[{"kind": "cut", "count": 1}]' ${sandbox.url}/_sandbox/faults`,
        "",
        ...(problems.length === 0
          ? []
          : [
              `Not served: ${counted(problems.length, "file")}`,
              ...problems
                .slice(0, PROBLEMS_SHOWN)
                .map(({ path, reason }) => `  ${shown(path)}: ${shown(reason)}`),
              ...(problems.length > PROBLEMS_SHOWN
                ? [`  and ${grouped(problems.length - PROBLEMS_SHOWN)} more, all in ${sandbox.url}/_sandbox/`]
                : []),
              "",
            ]),
        "Ctrl-C stops it.",
        "",
      ].join("\n"),
    );
    await writer.flush();
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    // Ctrl-C is how it is meant to end.
    return (signal.reason as { code?: string }).code === "terminated" ? 143 : 0;
  } finally {
    await system.remove(folder);
  }
}

/** What the control door shows of itself. */
async function readDoor(sandbox: Sandbox): Promise<Door> {
  const { get } = await import("node:http");
  const text = await new Promise<string>((resolve, reject) => {
    get(`${sandbox.url}/_sandbox/`, { agent: false }, (reply) => {
      let body = "";
      reply.setEncoding("utf8");
      reply.on("data", (part: string) => {
        body += part;
      });
      reply.on("end", () => resolve(body));
    }).on("error", reject);
  });
  return JSON.parse(text) as Door;
}
