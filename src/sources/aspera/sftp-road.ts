/** One file by SFTP: from the server, or from where an earlier try was cut. */
import { RunError } from "../../errors.ts";
import type { Context } from "../../lib/context.ts";
import { PartFile } from "../../lib/part-file.ts";
import { type Item, scratchName } from "../../model/item.ts";
import type { Sftp } from "../../transports/sftp/sftp.ts";
import type { Delivery, Entry } from "../source.ts";
import { type FileLocator, fileNameOf, isDecrypted } from "./map.ts";

/** A smaller file is fetched again sooner than it is kept. */
const RESUMED_FROM_BYTES = 1024 * 1024;

export interface SftpParts {
  readonly item: Item;
  readonly file: FileLocator;
  /** As the server is asked for it. */
  readonly remotePath: () => Promise<string>;
  readonly sftp: Sftp;
  readonly scratch: string;
}

export function overSftp(parts: SftpParts, context: Context): Delivery {
  const { item, file, sftp } = parts;
  const { host } = sftp.site;
  if (isDecrypted(item)) {
    const what = `${host}: ${item.labels.Path} is encrypted at rest, and only ascp can decrypt it`;
    const hint =
      "leave --decrypt and ASPERA_SCP_FILEPASS out to have it as it is, or get ascp: gantry ascp install";
    return { item, error: new RunError("usage", what, { hint }) };
  }
  const name = fileNameOf(item);
  async function* entries(): AsyncGenerator<Entry> {
    yield { name, body: body(parts, context) };
  }
  return {
    item,
    entries: entries(),
    statement: () => ({ digests: null, files: 1, bytes: file.bytes, from: `sftp://${host}`, facts: {} }),
  };
}

async function* body({ item, file, remotePath, sftp, scratch }: SftpParts, context: Context) {
  const { bytes, mtimeSeconds } = file;
  const path = await remotePath();
  const condition = item.revision;
  let part = bytes >= RESUMED_FROM_BYTES ? await PartFile.open(scratch, scratchName(item)) : null;
  if (part?.facts && part.facts.condition !== condition) {
    await part.remove();
    part = await PartFile.open(scratch, scratchName(item));
  }
  let over = false;
  try {
    const start = part?.facts?.syncedBytes ?? 0;
    const rest = sftp.read(path, { start, bytes, mtimeSeconds }, context);
    let begun = false;
    for await (const chunk of rest) {
      // What is here already is read only once the server has shown that the file is still the same.
      if (!begun) {
        if (part && start > 0) yield* part.read();
        await part?.begin(start > 0 ? null : { bytes, condition, md5: null, sha256: null });
        begun = true;
      }
      await part?.append(chunk);
      yield chunk;
    }
    over = true;
  } catch (error) {
    // What changed meanwhile must not be gone on with.
    over = error instanceof RunError && error.exit === 6;
    throw error;
  } finally {
    if (over) await part?.remove();
    else await part?.keep();
  }
}
