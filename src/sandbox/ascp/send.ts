/** Sending: files and folders of this machine into the transfer server's inbox. */
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { AT_REST_HEAD_BYTES, AT_REST_SUFFIX, encryptAtRest } from "../fasp/at-rest.ts";
import type { FaspWire } from "../fasp/wire.ts";
import { type Session, SessionError } from "./session.ts";

export interface SendPlan {
  readonly sources: readonly string[];
  readonly destinations: readonly string[] | null;
  readonly listed: boolean;
  readonly destination: string;
  readonly createFolder: boolean;
  readonly sourceBase: string | null;
  readonly encrypt: { readonly passphrase: string } | null;
  readonly resume: number;
}

interface Local {
  readonly path: string;
  readonly remote: string;
  readonly sizeBytes: number;
  readonly modifiedMs: number;
}

export async function send(session: Session, wire: FaspWire, plan: SendPlan): Promise<void> {
  const there = await look(wire, plan.destination);
  const renamed = plan.sources.length === 1 && !plan.listed && !plan.createFolder && there.kind === "nothing";
  const files: Local[] = [];
  for (const [index, source] of plan.sources.entries()) {
    const name =
      plan.destinations?.[index] ??
      (plan.sourceBase !== null && source.startsWith(plan.sourceBase)
        ? source.slice(plan.sourceBase.length).replace(/^\/+/, "")
        : basename(source.replace(/\/+$/, "")));
    await walk(source, renamed ? plan.destination : join(plan.destination, name), files);
  }
  const { counts } = session;
  counts.args = plan.sources.length;
  counts.scanned = files.length;
  if (!session.args.options.has("precalculate-disable"))
    await session.channel.send("NOTIFICATION", {
      SessionId: session.id,
      PreTransferBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      PreTransferFiles: files.length,
      PreTransferDirs: 0,
      PreTransferSpecial: 0,
      PreTransferFailed: 0,
    });
  await session.play();
  for (const file of files) {
    const { encrypt } = plan;
    const remote = encrypt === null ? file.remote : `${file.remote}${AT_REST_SUFFIX}`;
    const sizeBytes = file.sizeBytes + (encrypt === null ? 0 : AT_REST_HEAD_BYTES);
    if (plan.resume > 0) {
      const known = await look(wire, remote);
      if (known.kind === "file" && known.sizeBytes === sizeBytes) {
        counts.skipped++;
        continue;
      }
    }
    const state = session.beginFile(file.path, file.sizeBytes, 0);
    await wire.writeLine({ ask: "put", path: remote, sizeBytes, modifiedMs: file.modifiedMs });
    const clear = (): AsyncIterable<Uint8Array> => createReadStream(file.path, { highWaterMark: 64 * 1024 });
    const content =
      encrypt === null ? clear() : encryptAtRest(encrypt.passphrase, basename(file.path), clear);
    for await (const chunk of content) {
      await session.moving(state, chunk.length);
      await wire.writeBytes(chunk);
    }
    if ((await wire.readLine()) === undefined) throw new SessionError(16, "Connection lost");
    await session.endFile(state);
  }
  counts.argsDone = plan.sources.length;
}

async function look(
  wire: FaspWire,
  path: string,
): Promise<{ readonly kind: string; readonly sizeBytes: number }> {
  await wire.writeLine({ ask: "look", path });
  const answer = await wire.readLine();
  if (answer === undefined) throw new SessionError(16, "Connection lost");
  return answer as { kind: string; sizeBytes: number };
}

async function walk(path: string, remote: string, found: Local[]): Promise<void> {
  const facts = await stat(path).catch(() => undefined);
  if (facts === undefined)
    throw new SessionError(43, `Source path stat failed: No such file or directory: ${path}`);
  if (facts.isDirectory()) {
    for (const name of (await readdir(path)).sort()) await walk(join(path, name), join(remote, name), found);
  } else if (facts.isFile()) {
    found.push({ path, remote, sizeBytes: facts.size, modifiedMs: facts.mtimeMs });
  }
}
