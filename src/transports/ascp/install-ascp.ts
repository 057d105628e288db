/**
 * Installs ascp from an archive of IBM's Transfer SDK: unpacked into a new folder, tried there, and only then put in the
 * place of an earlier one. Facts: the index and archives that IBM/aspera-cli 4.26 reads (lib/aspera/ascp/installation.rb):
 * one top folder, in it `bin`, `sbin`, `lib`, `etc` and more; names may begin with `./`.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { chmod, mkdir, rename, rm, stat, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { makeFolder, onDisk, toDiskError } from "../../lib/durable-file.ts";
import { redactUrl } from "../../lib/redact.ts";
import { untar } from "../../lib/untar.ts";
import { unzip } from "../../lib/unzip.ts";
import { type Http, statusError } from "../http.ts";
import { askVersion } from "./describe-ascp.ts";
import { type Environment, installFolder, readFileWord } from "./find-ascp.ts";

/** Where IBM says which archive is for which system. */
const INDEX = "https://ibm.biz/sdk_location";
const MAX_ARCHIVE_BYTES = 1024 ** 3;
const MAX_FILES_BYTES = 2 * 1024 ** 3;
const MAX_FILES = 10_000;
const MAX_INDEX_BYTES = 1 << 20;
const FIRST_BYTE_MS = 60_000;
/** Folders of the archive that a transfer needs. */
const KEPT = new Set(["bin", "sbin", "lib", "etc", "aspera"]);

export interface InstallOptions {
  readonly environment: Environment;
  readonly http: () => Http;
  readonly context: Context;
  /** An archive: a URL, `file:///…`, or a path. Default: the newest for this system in IBM's index. */
  readonly sdk?: string;
}

export interface Installed {
  /** The program. */
  readonly path: string;
  readonly product: string;
  readonly version: string;
  /** Of the archive: where it came from, and what it was. */
  readonly from: string;
  readonly sha256: string;
  /** The version that was here before; null: none. */
  readonly instead: string | null;
}

/** Throws `usage`, `proof-format` for an archive that is none or hostile, `archive-…`, `disk-…`; then all is as before. */
export async function installAscp(options: InstallOptions): Promise<Installed> {
  const { environment } = options;
  const target = installFolder(environment);
  const sdk = options.sdk ?? (await newestSdk(options));
  const form = formOf(sdk);
  const fresh = `${target}.new-${process.pid}`;
  const download = `${fresh}.archive`;
  await makeFolder(dirname(target), { mode: 0o755 });
  try {
    const file = readFileWord(sdk);
    if (file === null) await fetchArchive(sdk, download, options);
    const archive = file ?? download;
    if (!(await stat(archive).catch(() => null))?.isFile())
      throw new RunError("usage", `${archive} is no file`, {
        hint: "file:///x is relative to the working folder, file:////x absolute; a plain path works, too",
      });
    const sha256 = await digestOf(archive);
    await rm(fresh, { recursive: true, force: true });
    await mkdir(fresh, { recursive: true });
    await unpack(archive, form, fresh);
    const program = join(fresh, "bin", process.platform === "win32" ? "ascp.exe" : "ascp");
    if (!(await stat(program).catch(() => null))?.isFile())
      throw new RunError("proof-format", `${sdk} holds no bin/ascp`, {
        hint: "name an archive of IBM's Transfer SDK",
      });
    const { product, version } = await askVersion(program);
    const path = join(target, "bin", process.platform === "win32" ? "ascp.exe" : "ascp");
    const before = await askVersion(path).catch(() => null);
    await swap(fresh, target);
    return { path, product, version, from: redactUrl(sdk), sha256, instead: before?.version ?? null };
  } catch (error) {
    throw (await toDiskError(error)) ?? error;
  } finally {
    await rm(fresh, { recursive: true, force: true });
    await rm(download, { force: true });
  }
}

type Form = "zip" | "tar.gz";

function formOf(sdk: string): Form {
  const name = sdk.replace(/[?#].*$/su, "");
  if (/\.zip$/iu.test(name)) return "zip";
  if (/\.(?:tar\.gz|tgz)$/iu.test(name)) return "tar.gz";
  throw new RunError("usage", `${redactUrl(sdk)} is neither a .zip nor a .tar.gz file`, {
    hint: "name an archive of IBM's Transfer SDK for this system",
  });
}

/** The old one is only gone when the new one is in its place. */
async function swap(fresh: string, target: string): Promise<void> {
  const old = `${target}.old-${process.pid}`;
  const had = await rename(target, old).then(
    () => true,
    () => false,
  );
  try {
    await onDisk({ operation: "rename", path: target }, () => rename(fresh, target));
  } catch (error) {
    if (had) await rename(old, target);
    throw error;
  }
  await rm(old, { recursive: true, force: true });
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

async function fetchArchive(url: string, path: string, { http, context }: InstallOptions): Promise<void> {
  const response = await http().request(
    { method: "GET", url: new URL(url), firstByteTimeoutMs: FIRST_BYTE_MS, data: true, raw: true },
    context,
  );
  if (response.status !== 200) {
    await response.discard();
    throw (
      statusError(response, context) ??
      new RunError("access-item", `${redactUrl(url)} is not there (HTTP ${response.status})`, {
        hint: "name another archive with --sdk-url; IBM lists them at https://ibm.biz/sdk_location",
      })
    );
  }
  await pipeline(Readable.from(bounded(response.body, url)), createWriteStream(path, { mode: 0o600 }));
}

async function* bounded(body: AsyncIterable<Uint8Array>, what: string): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > MAX_ARCHIVE_BYTES)
      throw new RunError("proof-format", `${redactUrl(what)} is longer than 1 GiB`);
    yield chunk;
  }
}

interface Packed {
  readonly name: string;
  readonly type: "file" | "folder" | "symlink" | "other";
  readonly target: string;
  readonly mode: number;
  readonly body: AsyncIterable<Uint8Array>;
}

async function* entriesOf(archive: string, form: Form): AsyncGenerator<Packed> {
  const bytes = createReadStream(archive, { highWaterMark: 1 << 18 });
  if (form === "tar.gz") {
    const plain = createGunzip();
    pipeline(bytes, plain).catch(() => undefined);
    try {
      yield* untar(plain as AsyncIterable<Uint8Array>);
    } catch (error) {
      if (error instanceof Error && "code" in error && String(error.code).startsWith("Z_"))
        throw new RunError("proof-format", `${archive} is no whole gzip file`, { cause: error });
      throw error;
    }
    return;
  }
  const limits = { maxEntries: MAX_FILES, maxTotalBytes: MAX_FILES_BYTES };
  for await (const { name, isDirectory, body } of unzip(bytes as AsyncIterable<Uint8Array>, limits))
    yield { name, type: isDirectory ? "folder" : "file", target: "", mode: 0o644, body };
}

/** What of an archive's name is below the folder; null for what is not kept. Throws `proof-format` for a hostile one. */
function placeOf(name: string): string | null {
  const segments = name.split("/").filter((segment) => segment !== "" && segment !== ".");
  if (name.startsWith("/") || name.includes("\\") || name.includes("\0") || segments.includes(".."))
    throw new RunError(
      "proof-format",
      `the archive has a name that leads elsewhere: ${JSON.stringify(name)}`,
    );
  // Behind the one top folder; archives without it begin with `bin` themselves.
  const start = KEPT.has(segments[0] ?? "") ? 0 : 1;
  return KEPT.has(segments[start] ?? "") && segments.length > start + 1
    ? segments.slice(start).join("/")
    : null;
}

async function unpack(archive: string, form: Form, folder: string): Promise<void> {
  let files = 0;
  let bytes = 0;
  const counted = async function* (body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) {
      bytes += chunk.length;
      if (bytes > MAX_FILES_BYTES)
        throw new RunError("proof-format", `${archive} unpacks to more than 2 GiB`);
      yield chunk;
    }
  };
  for await (const { name, type, target, mode, body } of entriesOf(archive, form)) {
    const place = placeOf(name);
    if (place === null || type === "folder") continue;
    files += 1;
    if (files > MAX_FILES) throw new RunError("proof-format", `${archive} has more than ${MAX_FILES} files`);
    const path = join(folder, place);
    await mkdir(dirname(path), { recursive: true });
    if (type === "symlink") {
      // Libraries have a second name beside them; anything else could lead out of the folder.
      if (!/^[^/\\\0]+$/u.test(target) || target === "..")
        throw new RunError(
          "proof-format",
          `the archive has a link that leads elsewhere: ${JSON.stringify(name)}`,
        );
      await symlink(target, path).catch(refuseTwice(name));
    } else if (type === "file") {
      await pipeline(Readable.from(counted(body)), createWriteStream(path, { flags: "wx" })).catch(
        refuseTwice(name),
      );
      const runs = /^s?bin\//u.test(place) || (mode & 0o111) !== 0;
      await chmod(path, runs ? 0o755 : 0o644);
    } else throw new RunError("proof-format", `the archive has a special file: ${JSON.stringify(name)}`);
  }
}

const refuseTwice =
  (name: string) =>
  (error: unknown): never => {
    if (error instanceof Error && "code" in error && error.code === "EEXIST")
      throw new RunError("proof-format", `the archive has ${JSON.stringify(name)} twice`);
    throw error;
  };

/** The newest archive for this system. Throws `usage` when there is none. */
async function newestSdk({ http, context }: InstallOptions): Promise<string> {
  const url = new URL(INDEX);
  const response = await http().request({ method: "GET", url, firstByteTimeoutMs: FIRST_BYTE_MS }, context);
  if (response.status !== 200) {
    await response.discard();
    throw (
      statusError(response, context) ??
      new RunError("archive-reply", `${INDEX} answers HTTP ${response.status}`)
    );
  }
  return chooseSdk(await response.text(MAX_INDEX_BYTES), process.platform, process.arch);
}

const SYSTEMS: Readonly<Record<string, string>> = {
  linux: "linux",
  darwin: "osx",
  win32: "windows",
  aix: "aix",
};
const MACHINES: Readonly<Record<string, string>> = {
  x64: "x86_64",
  arm64: "arm64",
  s390x: "s390",
  ppc64: "ppc64le",
};

/** From the index, a YAML list of flat records. */
export function chooseSdk(index: string, platform: string, machine: string): string {
  const system = SYSTEMS[platform] ?? platform;
  const wanted = [`${system}-${MACHINES[machine] ?? machine}`, `${system}-universal`];
  const records: Record<string, string>[] = [];
  for (const line of index.split(/\r?\n/u)) {
    const [, dash, key, value] =
      /^(\s*-)?\s*:?([a-z_]+):\s*["']?([^"'#]*?)["']?\s*(?:#.*)?$/u.exec(line) ?? [];
    if (dash !== undefined) records.push({});
    const record = records.at(-1);
    if (key !== undefined && value !== undefined && record) record[key] = value;
  }
  const fitting = records.filter(
    ({ platform: tag, url }) => wanted.includes(tag ?? "") && /^https:\/\//u.test(url ?? ""),
  );
  fitting.sort((a, b) => compareVersions(b.version ?? "", a.version ?? ""));
  const [best] = fitting;
  if (best?.url !== undefined) return best.url;
  throw new RunError("usage", `IBM's index has no Transfer SDK for ${wanted[0]}`, {
    hint: "name an archive with --sdk-url",
  });
}

function compareVersions(a: string, b: string): number {
  const [one = [], other = []] = [a, b].map((text) =>
    text.split(/[.-]/u).map((part) => Number.parseInt(part, 10) || 0),
  );
  for (let at = 0; at < Math.max(one.length, other.length); at += 1) {
    const difference = (one[at] ?? 0) - (other[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
