/**
 * `.gantry/asking/`: requests that were typed and have no selection yet (docs/formats/folder.md). One file a run,
 * written before the archive is asked and removed when the selection is there, so that a run that ends in between is
 * not forgotten.
 */
import { rm } from "node:fs/promises";
import { ensureFolder, onDisk, writeFileDurably } from "../lib/durable-file.ts";
import { readLines } from "../lib/lines.ts";
import { checkHeader } from "../model/receipt.ts";
import type { Request } from "../model/selection.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

const ASKING_KIND = "gantry-asking";
const ASKING_VERSION = 1;

export interface Asking {
  readonly path: string;
  readonly request: Request;
  /** It is to take the place of all earlier requests (`--replace`). */
  readonly replaceAll: boolean;
}

/** All of them, oldest first. Throws `folder-newer`, `disk-…`. */
export async function readAsking(state: StateFolder): Promise<Asking[]> {
  const found: Asking[] = [];
  for (const name of await readNames(state.path("asking"))) {
    if (!name.endsWith(".jsonl")) continue;
    const path = state.path("asking", name);
    for await (const { text } of readLines(path)) {
      const header = checkHeader(text, ASKING_KIND, ASKING_VERSION, path);
      found.push({ path, request: header.request as Request, replaceAll: header.replaceAll === true });
      break;
    }
  }
  return found;
}

/** Durable when it resolves. `addresses`: of a request that is a list, all that it names. Throws `disk-…`. */
export async function writeAsking(
  state: StateFolder,
  run: string,
  asking: {
    readonly request: Request;
    readonly replaceAll: boolean;
    readonly addresses: AsyncIterable<string> | null;
  },
): Promise<Asking> {
  const { request, replaceAll, addresses } = asking;
  async function* lines(): AsyncGenerator<string> {
    yield `${JSON.stringify({ kind: ASKING_KIND, version: ASKING_VERSION, request, replaceAll })}\n`;
    let batch = "";
    for await (const address of addresses ?? []) {
      batch += `${address}\n`;
      if (batch.length < 1 << 16) continue;
      yield batch;
      batch = "";
    }
    yield batch;
  }
  const path = state.path("asking", `${run}.jsonl`);
  await ensureFolder(state.path("asking"));
  await writeFileDurably(path, lines(), { temporaryIn: state.path("partial") });
  return { path, request, replaceAll };
}

/** What a request that is a list names, in its order. */
export async function* readAskedAddresses({ path }: Asking): AsyncGenerator<string> {
  for await (const { text, number } of readLines(path)) if (number > 1 && text !== "") yield text;
}

export async function removeAsking({ path }: Asking): Promise<void> {
  await onDisk({ operation: "delete", path }, () => rm(path, { force: true }));
}
