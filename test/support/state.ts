/** A target folder made by hand: selections, receipts and files without an archive. */
import { mkdir, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hashBytes } from "../../src/lib/digest.ts";
import type { Item } from "../../src/model/item.ts";
import { NO_FILTERS } from "../../src/model/query.ts";
import type { Receipt, ReceiptBody, StoredFile } from "../../src/model/receipt.ts";
import type { SafePath } from "../../src/model/safe-path.ts";
import { ReceiptWriter } from "../../src/state/receipts.ts";
import { type SelectionFile, writeSelection } from "../../src/state/selections.ts";
import { beginStateFolder, type StateFolder } from "../../src/state/state-folder.ts";

export const beginFolder = (dir: string): Promise<StateFolder> =>
  beginStateFolder(dir, {}, { layout: "uid", sink: "folder" });

export const item = (id: string, more: Partial<Item> = {}): Item => ({
  id: `dicom-series:${id}`,
  revision: "1",
  archive: "tcia",
  address: `tcia:${id}`,
  bytes: 10,
  files: 1,
  labels: { Collection: "C", PatientID: "P" },
  ...more,
});

export async function select(
  state: StateFolder,
  path: string,
  items: readonly Item[],
): Promise<SelectionFile> {
  async function* each(): AsyncGenerator<Item> {
    yield* items;
  }
  return writeSelection(
    state,
    { kind: "paths", archive: "tcia", paths: [[path]], filters: NO_FILTERS },
    each(),
    { replaceAll: false },
  );
}

/** Writes a file and says of it what a receipt would. */
export async function storeFile(state: StateFolder, path: string, text: string): Promise<StoredFile> {
  const full = join(state.dir, path);
  await mkdir(dirname(full), { recursive: true });
  await writeFile(full, text);
  const { size, mtimeMs } = await stat(full);
  return { path, bytes: size, digest: hashBytes("md5", Buffer.from(text)), mtimeMs: Math.trunc(mtimeMs) };
}

let writers = 0;

/** Appends one receipt, by a writer of its own. */
export async function receipt(
  state: StateFolder,
  id: string,
  files: readonly StoredFile[],
  more: Partial<ReceiptBody> = {},
): Promise<Receipt> {
  writers += 1;
  const writer = new ReceiptWriter(state, `test-${writers}`);
  try {
    return await writer.append({
      item: `dicom-series:${id}`,
      type: "stored",
      supersedes: [],
      archive: "tcia",
      revision: "1",
      at: "2026-01-01T00:00:00.000Z",
      from: null,
      tookMs: 1,
      proof: ["md5"],
      disputed: null,
      place: { folder: id as SafePath, file: null, prefix: "" },
      files,
      damaged: [],
      facts: {},
      ...more,
    });
  } finally {
    await writer.close();
  }
}
