import { ASCP_FLAGS, type AscpFlags, ascpChoices } from "../ascp-flags.ts";
import { defineCommand, type Flag, UsageError, wholeNumber } from "../command.ts";
import { logWarnings, withGantry } from "../open-library.ts";
import { TABLE_FLAGS, type TableFlags, writeTable } from "../render/table.ts";
import { counted, lasting, shown, sized } from "../render/wording.ts";
import { say } from "../render/writer.ts";

interface Flags extends TableFlags, AscpFlags {
  readonly title?: string;
  readonly note?: string;
  readonly to?: readonly string[];
  readonly pack?: string;
  readonly scratch?: string;
  readonly encrypt?: boolean;
  readonly dryRun?: boolean;
  readonly manifest: boolean;
  readonly bandwidth?: string;
  readonly retries?: number;
  readonly stallTimeout?: string;
}

/** What is for downloads alone. */
const NOT_HERE = /^--(?:decrypt|transport)/u;
const FLAGS: readonly Flag[] = [
  {
    flags: "--title <text>",
    help: "title of the package, and name of the list of checksums (default: the first name)",
  },
  { flags: "--note <text>", help: "what the recipients of a package are told" },
  {
    flags: "--to <name>",
    help: "who gets the package (default: whom the link names); may be repeated",
    parse: (text, before) => [...((before as string[] | undefined) ?? []), text],
  },
  { flags: "--encrypt", help: "encrypted at rest, with the passphrase in ASPERA_SCP_FILEPASS" },
  { flags: "--pack <format>", help: "send one archive file", choices: ["tar.zst", "tar.xz", "tar"] },
  { flags: "--scratch <dir>", help: "make the archive file here, e.g. on a large disk" },
  { flags: "--dry-run", help: "only show what would be sent" },
  { flags: "--no-manifest", help: "send no list of checksums beside the files" },
  { flags: "--bandwidth <rate>", help: "at most so fast, with its unit: 100Mbps, 12MB/s" },
  { flags: "--retries <n>", help: "how often to try again", parse: wholeNumber("--retries", 0) },
  { flags: "--stall-timeout <seconds>", help: "give up a transfer that gets no further for so long" },
  ...ASCP_FLAGS.filter(({ flags }) => !NOT_HERE.test(flags)),
  ...TABLE_FLAGS,
];

const EVERY_MS = 5_000;

export const command = defineCommand<Flags>({
  words: "<file...>",
  about:
    "Sends files and whole folders to an ascp site, or through the link of a Faspex server to send to somebody: the address comes last. Every file is hashed first, and the list of checksums (TITLE.sha256, for `sha256sum -c`) goes with them.",
  flags: FLAGS,
  examples: [
    ["gantry put results.csv images aspera://USER@HOST/incoming", "two things into a folder of a site"],
    ["gantry put scans aspera://USER@HOST/incoming --dry-run", "only what would be sent"],
    [
      "gantry put scans 'https://HOST/…?context=…' --title 'Scans of 2026' --pack tar.zst",
      "one archive file to a person",
    ],
  ],
  async run({ words, flags }, running) {
    const { io } = running;
    if (words.length < 2) {
      throw new UsageError(
        "gantry put needs files and, last, an address",
        "`gantry put --help` shows examples",
      );
    }
    const library = await io.library();
    const paths = words.slice(0, -1);
    const address = words.at(-1) as string;
    let saidMs = io.monotonicMs();
    running.onInterrupt("Stopping the upload. The same command again goes on where it stopped.");
    return withGantry(
      running,
      async (gantry) => {
        const { files, bytes, uploaded } = await gantry.put(paths, address, {
          ...(flags.title === undefined ? {} : { title: flags.title }),
          ...(flags.note === undefined ? {} : { note: flags.note }),
          ...(flags.to === undefined ? {} : { recipients: flags.to }),
          ...(flags.pack === undefined ? {} : { pack: flags.pack }),
          ...(flags.scratch === undefined ? {} : { scratch: flags.scratch }),
          encrypt: flags.encrypt === true,
          dryRun: flags.dryRun === true,
          manifest: flags.manifest,
          onState: (sentence) => say(io, shown(sentence)),
          onProgress: ({ doneBytes, totalBytes, bytesPerSecond, etaSeconds }) => {
            if (io.monotonicMs() - saidMs < EVERY_MS) return;
            saidMs = io.monotonicMs();
            const left = etaSeconds === null ? "" : `, ${lasting(etaSeconds * 1000)} left`;
            say(io, `${sized(doneBytes)} of ${sized(totalBytes)}, ${sized(bytesPerSecond)}/s${left}`);
          },
        });
        async function* rows() {
          for (const { name, bytes: size, sha256 } of files) yield { name, bytes: size, sha256 };
        }
        await writeTable(io, { columns: ["name", "bytes", "sha256"], rows: rows() }, flags);
        const what = `${counted(files.length, "file")}, ${sized(bytes)}`;
        if (uploaded === null) say(io, `${what}. Nothing was sent (--dry-run).`);
        else say(io, `Sent: ${what}, to ${shown(uploaded.address)}. Proved: ${uploaded.proof.join(", ")}.`);
        if (flags.encrypt === true)
          say(io, "The sums are of the clear files, as they come out with the passphrase.");
        return 0;
      },
      {
        log: logWarnings(running),
        ...ascpChoices(flags),
        ...(flags.retries === undefined ? {} : { retries: flags.retries }),
        ...(flags.bandwidth === undefined
          ? {}
          : { bandwidthBytesPerSecond: library.parseRate(flags.bandwidth) }),
        ...(flags.stallTimeout === undefined
          ? {}
          : { stallTimeoutMs: library.parseDuration(flags.stallTimeout, { bareUnit: "s" }) }),
      },
    );
  },
});
