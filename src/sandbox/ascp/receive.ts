/** Receiving: where files go, what is there already, resume, and the clear form of files encrypted at rest. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import {
  type FileHandle,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import {
  AT_REST_HEAD_BYTES,
  AT_REST_SUFFIX,
  NotAtRest,
  openAtRest,
  WrongPassphrase,
} from "../fasp/at-rest.ts";
import type { FaspRequest, FaspWire, ListEnd, ListedEntry } from "../fasp/wire.ts";
import { type Session, SessionError } from "./session.ts";

export interface ReceivePlan {
  /** As named, in order. */
  readonly sources: readonly string[];
  /** By position of the source, relative to the destination; of a pair list. */
  readonly destinations: readonly string[] | null;
  /** From a list file: the destination is a folder. */
  readonly listed: boolean;
  readonly destination: string;
  /** Cut off the sources, the rest is made anew. */
  readonly sourceBase: string | null;
  readonly resume: 0 | 1 | 2 | 3;
  readonly overwrite: string;
  readonly resumeSuffix: string;
  readonly partialSuffix: string;
  readonly keepTimes: boolean;
  readonly decrypt: { readonly passphrase: string; readonly failOnWrong: boolean } | null;
  /** Part i of n of a transfer in several processes, from 1. */
  readonly part: { readonly index: number; readonly of: number } | null;
}

interface Checkpoint {
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

const ask = (wire: FaspWire, request: FaspRequest): Promise<void> => wire.writeLine(request);

async function answered<T>(wire: FaspWire): Promise<T> {
  const answer = await wire.readLine();
  if (answer === undefined) throw new SessionError(16, "Connection lost");
  return answer as T;
}

export async function receive(session: Session, wire: FaspWire, plan: ReceivePlan): Promise<void> {
  await ask(wire, { ask: "list" });
  const entries: ListedEntry[] = [];
  let end: ListEnd | undefined;
  while (end === undefined) {
    const line = await answered<ListedEntry | ListEnd>(wire);
    if ("end" in line) end = line;
    else entries.push(line);
  }
  const { counts } = session;
  counts.args = plan.sources.length;
  counts.scanned = entries.length;
  counts.irregular = end.loops;
  if (end.missing.length > 0) {
    const first = plan.sources[end.missing[0]!];
    throw new SessionError(4, `Server aborted session: No such file or directory: ${first}`);
  }
  const targets = await chooseTargets(plan, entries);
  const files = entries.filter(({ type }) => type === "file");
  if (!session.args.options.has("precalculate-disable")) {
    await session.channel.send("NOTIFICATION", {
      SessionId: session.id,
      PreTransferBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      PreTransferFiles: files.length,
      PreTransferDirs: entries.length - files.length,
      PreTransferSpecial: 0,
      PreTransferFailed: 0,
    });
  }
  await session.play();
  const last = entries.findLastIndex(({ type }) => type === "file");
  let nth = 0;
  for (const [index, entry] of entries.entries()) {
    const target = targets(entry);
    session.cancel.signal.throwIfAborted();
    if (entry.type === "folder") {
      await makeFolder(target);
      counts.dirsMade++;
      continue;
    }
    nth++;
    if (plan.part !== null && (nth - 1) % plan.part.of !== plan.part.index - 1) continue;
    const { misbehaviour } = session;
    if (misbehaviour?.kind === "ascp-short" && index === last) continue;
    if (misbehaviour?.kind === "ascp-file-error" && nth === 1) {
      await session.failFile(
        target,
        misbehaviour.code ?? 36,
        misbehaviour.description ?? "Disk write failed",
      );
      continue;
    }
    await makeFolder(dirname(target));
    await receiveFile(session, wire, plan, index, entry, target);
  }
  counts.argsDone = plan.sources.length;
  if (counts.failed > 0) throw new SessionError(27, `Some files failed to transfer: ${counts.failed}`);
}

/** Naming of the destination (ascp manual, "Ascp general usage"; section 9.6 of our notes as a table). */
async function chooseTargets(
  plan: ReceivePlan,
  entries: readonly ListedEntry[],
): Promise<(entry: ListedEntry) => string> {
  const facts = await stat(plan.destination).catch(() => undefined);
  const create = plan.listed || plan.sources.length > 1;
  if (facts !== undefined && !facts.isDirectory() && create)
    throw new SessionError(42, `Destination: File exists: ${plan.destination}`);
  if (!create && (facts === undefined || !facts.isDirectory()) && plan.sourceBase === null) {
    // Without -d the only source takes the name of the destination.
    if (!plan.listed && plan.destinations === null && entries.length > 0) {
      const parent = await stat(dirname(plan.destination)).catch(() => undefined);
      if (parent?.isDirectory() !== true)
        throw new SessionError(4, `No such file or directory: ${plan.destination}`);
      return ({ path }) => (path === "" ? plan.destination : join(plan.destination, path));
    }
  }
  await makeFolder(plan.destination);
  return ({ source, path }) => join(plan.destination, nameOf(plan, source), path);
}

function nameOf(plan: ReceivePlan, source: number): string {
  const pair = plan.destinations?.[source];
  if (pair !== undefined) return pair;
  const path = plan.sources[source]!;
  if (plan.sourceBase !== null && path.startsWith(plan.sourceBase))
    return path.slice(plan.sourceBase.length).replace(/^\/+/, "");
  const name = basename(path.replace(/\/+$/, ""));
  return name === "." || name === "" ? "" : name;
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (error) {
    throw asSessionError(error, path);
  }
}

async function receiveFile(
  session: Session,
  wire: FaspWire,
  plan: ReceivePlan,
  index: number,
  entry: ListedEntry,
  wanted: string,
): Promise<void> {
  const opened = plan.decrypt !== null && wanted.endsWith(AT_REST_SUFFIX);
  const target = opened ? wanted.slice(0, -AT_REST_SUFFIX.length) : wanted;
  const headBytes = opened ? AT_REST_HEAD_BYTES : 0;
  const sizeBytes = Math.max(0, entry.sizeBytes - headBytes);
  const partial = `${target}${plan.partialSuffix}`;
  const checkpoint = `${target}${plan.resumeSuffix}`;

  // Of what is encrypted there is no digest of the clear form: sizes and times are all that can be compared.
  const compares = plan.resume >= 2 && !opened;
  const sameBytes = async (path: string, bytes: number): Promise<boolean> => {
    if (!compares) return true;
    await ask(wire, { ask: "digest", entry: index, bytes });
    return (await answered<{ md5: string }>(wire)).md5 === (await digestOf(path, bytes));
  };
  const here = await stat(target).catch(() => undefined);
  const unfinished = plan.partialSuffix === "" && (await exists(checkpoint));
  if (here !== undefined && !unfinished) {
    const same = here.size === sizeBytes && plan.resume > 0 && (await sameBytes(target, sizeBytes));
    const keeps =
      plan.overwrite === "never" ||
      (plan.overwrite !== "always" && same) ||
      (plan.overwrite === "older" && here.mtimeMs >= entry.modifiedMs);
    if (keeps) {
      session.counts.skipped++;
      session.counts.fileBytes += sizeBytes;
      return;
    }
  }

  let from = 0;
  const part = await stat(partial).catch(() => undefined);
  if (plan.resume > 0 && part !== undefined) {
    const was = await readCheckpoint(checkpoint);
    if (was !== null && was.sizeBytes === entry.sizeBytes && was.modifiedMs === entry.modifiedMs) {
      from = Math.min(part.size, sizeBytes);
      if (!(await sameBytes(partial, from))) from = 0;
    }
  }
  if (opened) from -= from % 16;

  let decrypt: ReturnType<typeof openAtRest> | null = null;
  if (opened && plan.decrypt !== null) {
    await ask(wire, { ask: "get", entry: index, from: 0 });
    // A whole look for 64 bytes would be wasteful; the rest of this answer is the file from its beginning.
    const { bytes } = await answered<{ bytes: number }>(wire);
    const head: Uint8Array[] = [];
    for await (const chunk of wire.readBytes(Math.min(headBytes, bytes))) head.push(chunk);
    try {
      decrypt = openAtRest(plan.decrypt.passphrase, Buffer.concat(head));
    } catch (error) {
      for await (const _ of wire.readBytes(Math.max(0, bytes - headBytes)));
      const [code, reason] =
        error instanceof WrongPassphrase
          ? [49, "File decryption: wrong passphrase"]
          : [48, "File encryption error: not an encrypted file"];
      if (!(error instanceof WrongPassphrase || error instanceof NotAtRest)) throw error;
      if (plan.decrypt.failOnWrong || code === 48) throw new SessionError(code as number, reason as string);
      await session.failFile(target, code as number, reason as string);
      return;
    }
    const rest = wire.readBytes(Math.max(0, bytes - headBytes));
    const state = session.beginFile(target, sizeBytes, 0);
    await write(session, plan, state, { partial, checkpoint, target, entry, from: 0 }, decrypt(rest, 0));
    return;
  }

  await ask(wire, { ask: "get", entry: index, from });
  const { bytes } = await answered<{ bytes: number }>(wire);
  const state = session.beginFile(target, sizeBytes, from);
  await write(session, plan, state, { partial, checkpoint, target, entry, from }, wire.readBytes(bytes));
}

interface Place {
  readonly partial: string;
  readonly checkpoint: string;
  readonly target: string;
  readonly entry: ListedEntry;
  readonly from: number;
}

/** However large the socket's pieces are: a misbehaviour that is due after so many bytes falls inside of a file. */
async function* inSteps(content: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const step = 16 * 1024;
  for await (const chunk of content)
    for (let at = 0; at < chunk.length; at += step) yield chunk.subarray(at, at + step);
}

async function write(
  session: Session,
  plan: ReceivePlan,
  state: ReturnType<Session["beginFile"]>,
  { partial, checkpoint, target, entry, from }: Place,
  content: AsyncIterable<Uint8Array>,
): Promise<void> {
  let file: FileHandle | undefined;
  try {
    if (plan.resume > 0) {
      const note: Checkpoint = { sizeBytes: entry.sizeBytes, modifiedMs: entry.modifiedMs };
      await writeFile(checkpoint, JSON.stringify(note));
    }
    file = await open(partial, from > 0 ? "r+" : "w");
    let at = from;
    for await (const chunk of inSteps(content)) {
      await session.moving(state, chunk.length);
      await file.write(chunk, 0, chunk.length, at);
      at += chunk.length;
    }
    await file.truncate(at);
    await file.close();
    file = undefined;
    if (plan.keepTimes) await utimes(partial, entry.modifiedMs / 1000, entry.modifiedMs / 1000);
    if (partial !== target) await rename(partial, target);
    if (plan.resume > 0) await rm(checkpoint, { force: true });
  } catch (error) {
    throw asSessionError(error, target);
  } finally {
    await file?.close();
  }
  await session.endFile(state);
}

function asSessionError(error: unknown, path: string): unknown {
  const codes: Readonly<Record<string, readonly [number, string]>> = {
    ENOSPC: [25, "Disk write failed: No space left on device"],
    EDQUOT: [25, "Disk write failed: Disk quota exceeded"],
    EACCES: [5, "Permission denied"],
    EPERM: [5, "Permission denied"],
    EROFS: [26, "Read-only file system"],
    ENAMETOOLONG: [55, "File name too long"],
    ENOTDIR: [6, "Not a directory"],
    EISDIR: [7, "Is a directory"],
    EEXIST: [42, "File exists"],
    EFBIG: [24, "File too large"],
  };
  const known = codes[(error as NodeJS.ErrnoException).code ?? ""];
  return known === undefined ? error : new SessionError(known[0], `${known[1]}: ${path}`);
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

async function readCheckpoint(path: string): Promise<Checkpoint | null> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as Checkpoint;
  } catch {
    return null;
  }
}

async function digestOf(path: string, bytes: number): Promise<string> {
  const hash = createHash("md5");
  if (bytes > 0)
    for await (const chunk of createReadStream(path, { end: bytes - 1 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
