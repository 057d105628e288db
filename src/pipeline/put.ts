/** Upload: files of this machine, hashed first, sent to a place of an archive with a list of their sums beside them. */
import { createReadStream } from "node:fs";
import { lstat, mkdir, readdir, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { RunError } from "../errors.ts";
import { createHasher } from "../lib/digest.ts";
import { onDisk } from "../lib/durable-file.ts";
import { compareKeys } from "../lib/external-sort.ts";
import { formatSumsLine } from "../model/sums-line.ts";
import type { OpenStore } from "../sinks/sink.ts";
import type { Source, SourceContext, Uploaded, UploadFile } from "../sources/source.ts";
import { temporaryFolder } from "../state/state-folder.ts";
import { type AskContext, openWords } from "./asks.ts";
import { Meter } from "./meter.ts";
import { type PackUpload, packUpload } from "./pack-upload.ts";

export interface PutOptions {
  /** What people are told, where the archive has a place for it. Default of the title: the first name. */
  readonly title?: string;
  readonly note?: string;
  readonly recipients?: readonly string[];
  /** Encrypted at rest, with the passphrase in `ASPERA_SCP_FILEPASS`. */
  readonly encrypt?: boolean;
  /** Only what would be sent. */
  readonly dryRun?: boolean;
  /** False: no list of sums is sent. */
  readonly manifest?: boolean;
  /** One archive file of this form instead of the files: `tar.zst`, `tar.xz` or `tar`. */
  readonly pack?: string;
  /** Where the archive file is made, to be deleted after the upload; default: the system's temporary folder. */
  readonly scratch?: string;
  readonly onProgress?: (progress: PutProgress) => void;
  /** Sentences for people: what is tried again, what the archive says of the whole. */
  readonly onState?: (sentence: string) => void;
}

export interface PutProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly files: number;
  readonly bytesPerSecond: number;
  readonly etaSeconds: number | null;
}

export interface PutFile {
  /** As the receiver sees it. */
  readonly name: string;
  readonly bytes: number;
  /** Absent in a dry run. */
  readonly sha256: string | null;
}

export interface PutSummary {
  readonly files: readonly PutFile[];
  readonly bytes: number;
  /** Where they are; null in a dry run. */
  readonly uploaded: Uploaded | null;
}

interface Local extends UploadFile {
  readonly mtimeMs: number;
}

/**
 * Sends files and whole folders to where `address` says. Throws `usage` for what can't be sent, `disk-…`, and what the
 * source throws once trying again has not helped.
 */
export async function put(
  paths: readonly string[],
  address: string,
  options: PutOptions,
  ask: AskContext,
  openStore: OpenStore,
): Promise<PutSummary> {
  const { context } = ask;
  const opened = await openWords([address], ask);
  const source = opened.kind === "places" ? await ask.source(opened.archive) : null;
  if (opened.kind !== "places" || !source?.upload) {
    throw new RunError(
      "usage",
      `nothing can be sent to ${opened.kind === "places" ? opened.archive : "this address"}`,
      {
        hint: "name an ascp site (aspera://USER@HOST/DIR), or paste a link to send to somebody",
      },
    );
  }
  const { note = null, recipients = [], manifest = true } = options;
  if ((note !== null || recipients.length > 0) && !source.capabilities.messages) {
    throw new RunError(
      "usage",
      `${opened.archive} takes files, and no ${note === null ? "recipients" : "note"}`,
      {
        hint: "only a package has a note and recipients: leave --note and --to out",
      },
    );
  }
  const files = await listLocal(paths);
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const [first] = paths;
  const title = options.title ?? basename(resolve(first as string));
  const list = manifest ? manifestName(title) : null;
  if (files.some(({ name }) => name === list)) {
    throw new RunError("usage", `the list of checksums would be called ${list}, as one of the files is`, {
      hint: "give another --title, or leave the list out with --no-manifest",
    });
  }
  if (options.dryRun) {
    const plain = files.map(({ name, bytes }) => ({ name, bytes, sha256: null }));
    return { files: plain, bytes: total, uploaded: null };
  }
  const scratch = await context.temporary();
  const packing = temporaryFolder(options.scratch === undefined ? undefined : () => String(options.scratch));
  try {
    const prepared = options.pack
      ? await packed(
          { files, title, format: options.pack, list, folder: await packing.folder() },
          openStore,
          context,
        )
      : { listed: await hashAll(files, context), sending: files, sums: null };
    const { listed } = prepared;
    const sending: UploadFile[] = [...prepared.sending];
    const name = prepared.sums === null ? list : `${prepared.sums[0]?.name}.sha256`;
    if (list !== null && name !== null)
      sending.push(await writeManifest(name, prepared.sums ?? listed, scratch));
    const [path = []] = opened.paths;
    const uploaded = await send({ source, path, files: sending, scratch, title, options, context });
    for (const file of files) await expectUnchanged(file);
    return { files: listed, bytes: total, uploaded };
  } finally {
    await packing.remove();
  }
}

/** What is sent, and the sums of it: null where they are those of the files. */
interface Prepared {
  readonly listed: readonly PutFile[];
  readonly sending: readonly UploadFile[];
  readonly sums: readonly PutFile[] | null;
}

async function packed(
  { list, ...what }: Omit<PackUpload, "manifest"> & { readonly list: string | null },
  openStore: OpenStore,
  context: SourceContext,
): Promise<Prepared> {
  const { archive, sha256, members } = await packUpload({ ...what, manifest: list }, openStore, context);
  const { name, bytes } = archive;
  return { listed: members, sending: [archive], sums: [{ name, bytes, sha256 }] };
}

async function hashAll(files: readonly Local[], context: SourceContext): Promise<PutFile[]> {
  const listed: PutFile[] = [];
  for (const { from, name, bytes } of files) listed.push({ name, bytes, sha256: await hash(from, context) });
  return listed;
}

interface Sending {
  readonly source: Source;
  readonly path: readonly string[];
  readonly files: readonly UploadFile[];
  readonly scratch: string;
  readonly title: string;
  readonly options: PutOptions;
  readonly context: SourceContext;
}

async function send({ source, path, files, scratch, title, options, context }: Sending): Promise<Uploaded> {
  const meter = new Meter(context.clock);
  const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  return context.retry.run(
    source.archive,
    async (attempt) => {
      const upload = source.upload?.(
        {
          ...{ path, files, scratch, attempt },
          ...{ title, note: options.note ?? null, recipients: options.recipients ?? [] },
          encrypt: options.encrypt ?? false,
        },
        context,
      );
      if (!upload) throw new Error(`${source.kind} takes no uploads`);
      for (;;) {
        const next = await upload.next();
        if (next.done) return next.value;
        if (next.value.type === "state") options.onState?.(next.value.sentence);
        else {
          meter.writtenBytes = next.value.bytes;
          options.onProgress?.({
            doneBytes: next.value.bytes,
            totalBytes,
            files: files.length,
            ...meter.sample(totalBytes),
          });
        }
      }
    },
    ({ error }) => options.onState?.(`${error.message}; trying again`),
  );
}

/** All files, by name. A folder is taken whole; a link or special file in it is refused, so that nothing is missing unsaid. */
async function listLocal(paths: readonly string[]): Promise<Local[]> {
  const found = new Map<string, Local>();
  const add = async (from: string, name: string): Promise<void> => {
    if (name.includes("\ufffd") && !(await lstat(from).catch(() => null))) {
      throw new RunError("usage", `the name of ${from} is no UTF-8, and can't be sent`, {
        hint: "rename it: what is no UTF-8 is shown as \ufffd",
      });
    }
    const facts = await onDisk({ operation: "read", path: from }, () => lstat(from));
    if (facts.isDirectory()) {
      const names = await onDisk({ operation: "read", path: from }, () => readdir(from));
      for (const each of names.sort(compareKeys)) await add(join(from, each), `${name}/${each}`);
      return;
    }
    if (!facts.isFile()) {
      throw new RunError("usage", `${from} is a link or a special file, which is not sent`, {
        hint: "give what it leads to, or take it out of the folder",
      });
    }
    if (/[\r\n]/u.test(name))
      throw new RunError("usage", `${JSON.stringify(name)} has a line break in its name`);
    if (found.has(name)) {
      throw new RunError("usage", `two files would be ${name} at the receiver`, {
        hint: "send them one after the other, or give them other names",
      });
    }
    found.set(name, { from, name, bytes: facts.size, mtimeMs: facts.mtimeMs });
  };
  for (const path of paths) {
    const from = resolve(path);
    if (!(await lstat(from).catch(() => null)))
      throw new RunError("usage", `there is no file or folder ${path}`);
    await add(from, basename(from));
  }
  if (found.size === 0)
    throw new RunError("usage", "there is no file in what was given", { hint: "name files or folders" });
  return [...found.values()];
}

async function hash(path: string, { signal }: SourceContext): Promise<string> {
  const hasher = createHasher("sha256");
  await onDisk({ operation: "read", path }, async () => {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, signal }))
      hasher.update(chunk as Buffer);
  });
  return hasher.digest().slice("sha256:".length);
}

const manifestName = (title: string): string => `${title.replaceAll(/[/\\\0\r\n]/gu, "_")}.sha256`;

/** A list that `sha256sum -c` reads. */
async function writeManifest(name: string, files: readonly PutFile[], scratch: string): Promise<UploadFile> {
  const folder = join(scratch, "manifest");
  await mkdir(folder, { recursive: true });
  const from = join(folder, name);
  const text = files.map((file) => formatSumsLine(String(file.sha256), file.name)).join("");
  await onDisk({ operation: "write", path: from }, () => writeFile(from, text));
  return { from, name, bytes: Buffer.byteLength(text) };
}

async function expectUnchanged({ from, bytes, mtimeMs }: Local): Promise<void> {
  const facts = await lstat(from).catch(() => null);
  if (facts?.size === bytes && facts.mtimeMs === mtimeMs) return;
  throw new RunError(
    "proof-digest",
    `${from} changed while it was sent: what arrived is not what its sum says`,
    {
      hint: "send it again",
    },
  );
}
