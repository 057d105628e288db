/**
 * Single files by ascp: many of them by one transfer specification, each under a name of its own in the scratch folder, so
 * that the next try goes on with it whatever else it asks for.
 */
import { createHash } from "node:crypto";
import { lstat, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { makeFolder } from "../../lib/durable-file.ts";
import type { Ascp } from "./ascp.ts";
import type { TransferSpec } from "./transfer-spec.ts";

/** Who has the files. */
export interface AscpOffer {
  /** Its name, the same in every run. */
  readonly archive: string;
  /** What sentences are about. */
  readonly subject: string;
  /** A receiving specification whose sources are exactly these paths in this order, without destinations. */
  specFor(paths: readonly (readonly string[])[], context: Context): Promise<TransferSpec>;
  /** What the server puts before each path, at most; absent: lists may be of any length. */
  placeBytes?(context: Context): Promise<number>;
}

/** A file that is wanted, and a name for it that is the same in every run and no other's. */
export interface Wanted {
  readonly path: readonly string[];
  readonly key: string;
  /** It is encrypted at rest, and is to come out clear. */
  readonly decrypted?: boolean;
}

/** At rest encrypted files have this at the end of their names; ascp takes it away when it decrypts. */
export const AT_REST = ".aspera-env";

/** What is asked for in place of a file: itself, or the folder above it that ascp's lists can name. */
interface Source {
  readonly key: string;
  readonly path: readonly string[];
  /** What it is to be called in the scratch folder; an encrypted one so that only a decrypted one is `file`. */
  readonly destination: string;
  /** Where the wanted file then is. */
  readonly file: string;
}

/** A list of ascp has a path a line, without any escape: of a name with a line break the folder above is asked for. */
function sourceOf({ path, key, decrypted = false }: Wanted): Source {
  const broken = path.findIndex((name) => /[\r\n]/u.test(name));
  const clear = decrypted && (path.at(-1) ?? "").endsWith(AT_REST);
  if (broken < 0) return { key, path, destination: clear ? `${key}${AT_REST}` : key, file: key };
  const rest = path.slice(broken).join("/");
  const file = clear ? rest.slice(0, -AT_REST.length) : rest;
  return { key, path: path.slice(0, broken), destination: key, file: `${key}/${file}` };
}

export interface Received {
  /** Absolute; a finished file. */
  readonly file: string;
  /** Its size as ascp tells it; null where it tells none. */
  readonly bytes: number | null;
  /** Scheme and host that it came from. */
  readonly from: string;
}

/** Files are stored one by one while their session goes on: how it ends says nothing of them, its word of each does. */
export const checkedOf = ({ bytes }: Received): readonly string[] => (bytes === null ? [] : ["ascp-file"]);

export type Outcome<W extends Wanted> =
  | { readonly wanted: W; readonly received: Received }
  | { readonly wanted: W; readonly error: RunError };

export interface RoadOptions {
  /** Exists or not; other transfers use it, too. */
  readonly scratch: string;
  readonly attempt: number;
  /** See `FetchOptions.onArrived`. */
  readonly onArrived?: (bytes: number) => void;
}

/** A token fits its list up to some 430 files or 32 KB of paths as the server has them (IBM/aspera-connect-sdk-js#59). */
const MOST_FILES = 300;
const MOST_BYTES = 28 * 1024;

export class AscpRoad {
  readonly #ascp: Ascp;
  readonly #offer: AscpOffer;

  constructor(ascp: Ascp, offer: AscpOffer) {
    this.#ascp = ascp;
    this.#offer = offer;
  }

  /** Throws `usage` where no ascp is on this machine. */
  async check(): Promise<void> {
    await this.#ascp.find();
  }

  /**
   * Each of the wanted files as it is whole, or why it did not come, in the order in which that is known. What a
   * transfer throws is the failure of all that it still had to bring.
   */
  async *receive<W extends Wanted>(
    wanted: readonly W[],
    options: RoadOptions,
    context: Context,
  ): AsyncGenerator<Outcome<W>> {
    const place = (await this.#offer.placeBytes?.(context)) ?? null;
    for (const group of groups(wanted, place)) {
      const left = new Map(group.map((each) => [each.key, each]));
      try {
        for await (const { key, ...received } of this.#transfer(group, options, context)) {
          const of = left.get(key);
          if (!of) continue;
          left.delete(key);
          yield { wanted: of, ...received };
        }
      } catch (error) {
        if (context.signal.aborted || !(error instanceof RunError)) throw error;
        for (const each of left.values()) yield { wanted: each, error };
        continue;
      }
      for (const each of left.values()) {
        const what = `${this.#offer.subject}: ${each.path.join("/")} did not come, although ascp says that all did`;
        yield { wanted: each, error: new RunError("archive-cut", what) };
      }
    }
  }

  async *#transfer(
    group: readonly Wanted[],
    options: RoadOptions,
    context: Context,
  ): AsyncGenerator<
    { readonly key: string } & ({ readonly received: Received } | { readonly error: RunError })
  > {
    const folder = join(options.scratch, `ascp-${digest(this.#offer.archive)}`);
    await makeFolder(options.scratch, { mode: 0o700 });
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const sources = group.map(sourceOf);
    const offered = await this.#offer.specFor(
      sources.map(({ path }) => path),
      context,
    );
    const spec: TransferSpec = {
      ...offered,
      paths: sources.map(({ destination }, index) => ({
        source: offered.paths[index]?.source ?? "",
        destination,
      })),
      create_dir: true,
      precalculate_job_size: true,
    };
    for (const { key } of group)
      for (const end of ["", AT_REST]) await leaveLinked(join(folder, `${key}${end}`));
    const settled = new Set<string>();
    const byFile = new Map(sources.map((each) => [each.file, each.key]));
    const from = `aspera://${spec.remote_host}`;
    const received = (key: string, bytes: number | null): { key: string; received: Received } => ({
      key,
      received: { file: join(folder, sources.find((each) => each.key === key)?.file ?? key), bytes, from },
    });
    let waiting = 0;
    let handedOver = 0;
    const arrived = (bytes: number): void => {
      waiting += bytes;
      options.onArrived?.(bytes);
    };
    try {
      for await (const event of this.#ascp.transfer(
        { spec, folder, patience: options.attempt + 1 },
        context,
      )) {
        if (event.type === "progress") arrived(event.bytes - handedOver - waiting);
        if (event.type !== "file" && event.type !== "file-failed") continue;
        const name = nameBelow(event.path, folder);
        const key = byFile.get(name) ?? byFile.get(name.replace(/\.aspera-env$/u, ""));
        if (key === undefined || settled.has(key)) continue;
        settled.add(key);
        if (event.type === "file-failed") yield { key, error: event.error };
        else if (await isFile(received(key, null).received.file)) {
          handedOver += event.bytes ?? 0;
          arrived(-(event.bytes ?? 0));
          yield received(key, event.bytes);
        } else yield { key, error: await notThere(received(key, null).received.file) };
      }
    } finally {
      arrived(-waiting);
    }
    // What an earlier try brought whole is not told again.
    for (const { key, file } of sources) {
      if (settled.has(key)) continue;
      if (await isFile(join(folder, file))) yield received(key, null);
    }
  }
}

/** Portions that a token can be for, in the order given. */
function* groups<W extends Wanted>(wanted: readonly W[], placeBytes: number | null): Generator<W[]> {
  let group: W[] = [];
  let bytes = 0;
  for (const each of wanted) {
    // A folder in place of a file may be the package itself, which is asked for alone.
    if (each.path.some((name) => /[\r\n]/u.test(name))) {
      yield [each];
      continue;
    }
    const size = placeBytes === null ? 0 : placeBytes + Buffer.byteLength(each.path.join("/")) + 1;
    if (group.length >= MOST_FILES || (group.length > 0 && bytes + size > MOST_BYTES)) {
      yield group;
      group = [];
      bytes = 0;
    }
    group.push(each);
    bytes += size;
  }
  if (group.length > 0) yield group;
}

/** A file that got a second name is stored there: ascp must not write into it. */
async function leaveLinked(path: string): Promise<void> {
  const facts = await lstat(path).catch(() => null);
  if (facts !== null && (facts.nlink > 1 || !facts.isFile()))
    await rm(path, { recursive: true, force: true });
}

const isFile = async (path: string): Promise<boolean> =>
  (await lstat(path).catch(() => null))?.isFile() ?? false;

/** Why a file that ascp told of is not where it should be. */
async function notThere(path: string): Promise<RunError> {
  return (await isFile(`${path}${AT_REST}`))
    ? new RunError("proof-format", "the file came, and ascp left it encrypted", {
        hint: "check the passphrase in ASPERA_SCP_FILEPASS",
      })
    : new RunError("archive-cut", "ascp says that the file is here, and it is not");
}

/** ascp names files as they lie here, or relative to the destination. */
const nameBelow = (path: string, folder: string): string =>
  path.startsWith(`${folder}/`) ? path.slice(folder.length + 1) : path.replace(/^\.?\//u, "");

export const digest = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 24);
