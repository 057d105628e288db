/**
 * Replies kept on the disk for a day, so that the same question is not asked twice. Only what was read whole and
 * understood is kept, and only what is still as it was written is used: anything else is asked again.
 *
 * A file is a line of JSON (kind, version, what was asked, when, length and SHA-256 of the reply), then the reply.
 * Its name is the SHA-256 of method, address, form and user: no secret is in names or files.
 */
import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { Context } from "../lib/context.ts";
import { ensureFolder, onDisk, writeAll } from "../lib/durable-file.ts";
import { redactUrl } from "../lib/redact.ts";

export const REPLY_LIFE_MS = 24 * 60 * 60 * 1000;

/** What makes two questions the same. */
export interface Asked {
  readonly method: "GET" | "POST";
  readonly url: URL;
  /** Of a form; empty for GET. */
  readonly body: string;
  /** Who asks, since archives answer people differently; it is hashed. Empty: nobody in particular. */
  readonly user: string;
}

/** A reply that is being written. */
export interface Keeping {
  /** The reply's bytes as they pass; what can't be written costs the copy, never the reply. */
  readonly body: AsyncIterable<Uint8Array>;
  /** The reply was understood to its end: keep it. One that was not read to the end, or is empty, is not kept. */
  keep(): Promise<void>;
  /** Removes what is not kept. Always called. */
  close(): Promise<void>;
}

export interface ReplyCache {
  /** The bytes of a reply that is at most a day old and undamaged, else null. */
  read(asked: Asked, context: Context): Promise<AsyncIterable<Uint8Array> | null>;
  write(asked: Asked, body: AsyncIterable<Uint8Array>, context: Context): Promise<Keeping>;
}

/**
 * What `parse` makes of a reply: of the kept one, or of the one that `ask` gets, which is then kept if it was parsed
 * to its end. Without a cache, `parse` of what `ask` gets.
 */
export async function* throughCache<T>(
  cache: ReplyCache | null,
  asked: Asked,
  ask: () => Promise<AsyncIterable<Uint8Array>>,
  parse: (body: AsyncIterable<Uint8Array>) => AsyncIterable<T>,
  context: Context,
): AsyncGenerator<T> {
  const kept = await cache?.read(asked, context);
  if (kept) {
    yield* parse(kept);
    return;
  }
  const body = await ask();
  if (!cache) {
    yield* parse(body);
    return;
  }
  const keeping = await cache.write(asked, body, context);
  try {
    yield* parse(keeping.body);
    await keeping.keep();
  } finally {
    await keeping.close();
  }
}

const KIND = "gantry-reply";
const VERSION = 1;
const HEAD_BYTES = 4096;
const CHUNK_BYTES = 256 * 1024;
const FILE_NAME = /^([0-9a-f]{64}\.reply|\.[0-9a-f]{64}\.[0-9a-f]{12}\.tmp)$/u;

interface Head {
  readonly kind: typeof KIND;
  readonly version: typeof VERSION;
  readonly asked: string;
  /** UTC */
  readonly at: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** `refresh`: what is there is not used, but replaced. The folder is made when the first reply is kept. */
export function openReplyCache(folder: string, options: { readonly refresh: boolean }): ReplyCache {
  const dir = resolve(folder);
  const pathOf = (asked: Asked): string => join(dir, `${keyOf(asked)}.reply`);
  let prepared: Promise<void> | undefined;
  return {
    read: async (asked, context) => (options.refresh ? null : readReply(pathOf(asked), asked, context)),
    write: async (asked, body, context) => {
      prepared ??= prepare(dir, context);
      await prepared;
      return keeping(pathOf(asked), asked, body, context);
    },
  };
}

function keyOf({ method, url, body, user }: Asked): string {
  return createHash("sha256")
    .update(JSON.stringify([method, url.href, body, user]))
    .digest("hex");
}

/** Makes the folder, for nobody else to read, and removes replies that are too old. Throws `disk-…`. */
async function prepare(dir: string, { clock }: Context): Promise<void> {
  await ensureFolder(dir, { mode: 0o700 });
  const names = await onDisk({ operation: "list", path: dir }, () => readdir(dir));
  for (const name of names) {
    if (!FILE_NAME.test(name)) continue;
    const path = join(dir, name);
    const facts = await stat(path).catch(() => null);
    if (facts && clock.now().getTime() - facts.mtimeMs > REPLY_LIFE_MS) await remove(path);
  }
}

/** The file stays open from the check to the last byte, so that what is read is what was checked. */
async function readReply(
  path: string,
  asked: Asked,
  context: Context,
): Promise<AsyncIterable<Uint8Array> | null> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (error) {
    if (!isAbsent(error)) context.log("warn", `the kept reply ${path} can't be read and is asked for again`);
    return null;
  }
  let good = false;
  try {
    const head = await readHead(file);
    const begin = head === null ? 0 : head.length;
    const parsed = head === null ? null : parseHead(head.text);
    if (parsed === null || parsed.asked !== describe(asked) || !(await isWhole(file, begin, parsed))) {
      context.log("warn", `the kept reply ${path} is damaged and is asked for again`);
      return null;
    }
    const ageMs = context.clock.now().getTime() - Date.parse(parsed.at);
    if (!(ageMs >= 0 && ageMs < REPLY_LIFE_MS)) return null;
    context.log("debug", `${describe(asked)}: reply kept ${Math.round(ageMs / 60_000)} minutes ago`);
    good = true;
    return chunksOf(file, begin);
  } catch (error) {
    context.log("warn", `the kept reply ${path} can't be read and is asked for again`, {
      cause: String(error),
    });
    return null;
  } finally {
    if (!good) await file.close().catch(() => undefined);
  }
}

async function* chunksOf(file: FileHandle, begin: number): AsyncGenerator<Uint8Array> {
  try {
    yield* piecesOf(file, begin);
  } finally {
    await file.close().catch(() => undefined);
  }
}

async function* piecesOf(file: FileHandle, begin: number): AsyncGenerator<Uint8Array> {
  for (let position = begin; ; ) {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    const { bytesRead } = await onDisk({ operation: "read" }, () =>
      file.read(buffer, 0, CHUNK_BYTES, position),
    );
    if (bytesRead === 0) return;
    position += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

async function readHead(file: FileHandle): Promise<{ text: string; length: number } | null> {
  const buffer = Buffer.alloc(HEAD_BYTES);
  const { bytesRead } = await file.read(buffer, 0, HEAD_BYTES, 0);
  const end = buffer.subarray(0, bytesRead).indexOf(0x0a);
  return end === -1 ? null : { text: buffer.toString("utf8", 0, end), length: end + 1 };
}

function parseHead(text: string): Head | null {
  try {
    const head = JSON.parse(text) as Head;
    return head.kind === KIND && head.version === VERSION ? head : null;
  } catch {
    return null;
  }
}

async function isWhole(file: FileHandle, begin: number, head: Head): Promise<boolean> {
  const { size } = await file.stat();
  if (size !== begin + head.bytes) return false;
  const hash = createHash("sha256");
  for await (const piece of piecesOf(file, begin)) hash.update(piece);
  return hash.digest("hex") === head.sha256;
}

async function keeping(
  path: string,
  asked: Asked,
  body: AsyncIterable<Uint8Array>,
  context: Context,
): Promise<Keeping> {
  const name = `.${basename(path, ".reply")}.${randomBytes(6).toString("hex")}.tmp`;
  const temporary = join(dirname(path), name);
  // The head holds what is known at the end only, so its place is left free: JSON may be padded with blanks.
  let file: FileHandle | null = await open(temporary, "wx", 0o600).catch((error: unknown) => {
    context.log("warn", `a reply can't be kept in ${dirname(path)}: ${reasonOf(error)}`);
    return null;
  });
  const hash = createHash("sha256");
  let bytes = 0;
  let whole = false;
  const give = async (step: (file: FileHandle) => Promise<unknown>): Promise<void> => {
    if (!file) return;
    try {
      await step(file);
    } catch (error) {
      context.log("warn", `a reply can't be kept in ${dirname(path)}: ${reasonOf(error)}`);
      await file.close().catch(() => undefined);
      file = null;
      await remove(temporary);
    }
  };
  async function* passing(): AsyncGenerator<Uint8Array> {
    await give((into) => writeAll(into, Buffer.alloc(HEAD_BYTES, " ")));
    for await (const chunk of body) {
      hash.update(chunk);
      bytes += chunk.length;
      await give((into) => writeAll(into, chunk));
      yield chunk;
    }
    whole = true;
  }
  return {
    body: passing(),
    keep: async () => {
      if (!whole || bytes === 0) return;
      const head: Head = {
        kind: KIND,
        version: VERSION,
        asked: describe(asked),
        at: context.clock.now().toISOString(),
        bytes,
        sha256: hash.digest("hex"),
      };
      const text = Buffer.from(JSON.stringify(head));
      // Too long an address: not worth a second form of file.
      if (text.length >= HEAD_BYTES) return;
      await give(async (into) => {
        const line = Buffer.alloc(HEAD_BYTES, " ");
        text.copy(line);
        line[HEAD_BYTES - 1] = 0x0a;
        await into.write(line, 0, HEAD_BYTES, 0);
        await into.close();
        file = null;
        await rename(temporary, path);
      });
    },
    close: async () => {
      await file?.close().catch(() => undefined);
      file = null;
      await remove(temporary);
    },
  };
}

/** For people; the address holds no secret. */
const describe = ({ method, url }: Asked): string => `${method} ${redactUrl(url)}`.slice(0, 2000);

const remove = (path: string): Promise<void> => rm(path, { force: true }).catch(() => undefined);

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the quota is used up",
  EROFS: "the file system is read-only",
  EACCES: "permission denied",
  EPERM: "permission denied",
};

function reasonOf(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return REASONS[code] ?? (code || String(error));
}

const isAbsent = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ENOENT";
