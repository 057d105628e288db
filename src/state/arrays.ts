/**
 * `.gantry/arrays/`: plans that are divided among the tasks of an array (docs/formats/folder.md). `ARRAY.jsonl` holds
 * what there is to fetch, `ARRAY.json` where each slice of it lies. An array is open while its folder of leases is there.
 */
import { open, readFile, rename, rm, stat } from "node:fs/promises";
import { RunError } from "../errors.ts";
import { ensureFolder, onDisk, writeFileDurably } from "../lib/durable-file.ts";
import { checkHeader } from "../model/receipt.ts";
import { environmentPath } from "./array-environment.ts";
import { leasesPath } from "./lease-folder.ts";
import { readNames, type StateFolder } from "./state-folder.ts";

const ARRAY_KIND = "gantry-array";
const ARRAY_VERSION = 1;
/** Number of the run that ends an array, among those of its tasks. */
export const FINISHING = -1;
/** How the file ends that the end of an array is told in. */
const REPORT = ".report.json";
/** Items in a slice at most: what a task that dies leaves to others. */
export const SLICE_ITEMS = 16;
/** Slices for each task at least, where there are items enough: so that a slow task holds few of them at the end. */
const SLICES_PER_TASK = 4;

export interface Slice {
  /** Place of its lines in the plan, in bytes. */
  readonly at: number;
  readonly length: number;
  readonly items: number;
}

export interface ArrayRecord {
  readonly kind: typeof ARRAY_KIND;
  readonly version: typeof ARRAY_VERSION;
  /** Its name: the run that planned it. */
  readonly array: string;
  readonly plannedAt: string;
  readonly tasks: number;
  /** As people write them. */
  readonly requests: readonly string[];
  /** Digests of the selections that it is for. */
  readonly selections: readonly string[];
  readonly items: number;
  readonly files: number;
  readonly bytes: number;
  /** Of the largest item, as the archive announces it. */
  readonly largestBytes: number;
  /** Items that were here already. */
  readonly here: number;
  /** Items that the archive does not show. */
  readonly unknown: number;
  readonly slices: readonly Slice[];
  /** How it was submitted, for who submits it again: written and read by the command line alone. */
  readonly job: readonly string[];
}

export type ArrayFacts = Pick<
  ArrayRecord,
  | "array"
  | "plannedAt"
  | "tasks"
  | "requests"
  | "selections"
  | "files"
  | "bytes"
  | "largestBytes"
  | "here"
  | "unknown"
  | "job"
>;

/** How many items a slice has. */
export function sliceItems(items: number, tasks: number): number {
  return Math.max(1, Math.min(SLICE_ITEMS, Math.floor(items / (tasks * SLICES_PER_TASK))));
}

/** Writes the plan and opens its array. `lines`: one a task, without newline; `items` of them. Throws `disk-…`. */
export async function writeArray(
  state: StateFolder,
  facts: ArrayFacts,
  { items, lines }: { readonly items: number; readonly lines: AsyncIterable<string> },
): Promise<ArrayRecord> {
  const most = sliceItems(items, facts.tasks);
  const slices: Slice[] = [];
  let slice = { at: 0, length: 0, items: 0 };
  async function* content(): AsyncGenerator<Buffer> {
    for await (const line of lines) {
      const bytes = Buffer.from(`${line}\n`);
      slice = { ...slice, length: slice.length + bytes.length, items: slice.items + 1 };
      if (slice.items === most) {
        slices.push(slice);
        slice = { at: slice.at + slice.length, length: 0, items: 0 };
      }
      yield bytes;
    }
    if (slice.items > 0) slices.push(slice);
  }
  await ensureFolder(state.path("arrays"));
  const temporaryIn = state.path("partial");
  await writeFileDurably(planPath(state, facts.array), content(), { temporaryIn });
  await ensureFolder(leasesPath(state, facts.array));
  const record: ArrayRecord = {
    kind: ARRAY_KIND,
    version: ARRAY_VERSION,
    ...facts,
    items,
    slices,
  };
  await writeFileDurably(recordPath(state, facts.array), `${JSON.stringify(record)}\n`, { temporaryIn });
  return record;
}

/** All that were ever planned, oldest first. Throws `folder-newer`, `disk-…`. */
export async function readArrays(state: StateFolder): Promise<ArrayRecord[]> {
  const found: ArrayRecord[] = [];
  for (const name of await readNames(state.path("arrays")))
    if (name.endsWith(".json") && !name.endsWith(REPORT))
      found.push(await readRecord(state, name.slice(0, -".json".length)));
  return found;
}

/** An array whose tasks may work. Throws `folder-unknown` for another name, `array-over` for one that was closed. */
export async function openArray(state: StateFolder, array: string): Promise<ArrayRecord> {
  if (!(await readNames(state.path("arrays"))).includes(`${array}.json`)) {
    throw new RunError("folder-unknown", `${state.dir} has no array ${array}`, {
      hint: "`gantry slurm submit` plans one",
    });
  }
  const record = await readRecord(state, array);
  if (!(await isOpen(state, array))) {
    throw new RunError("array-over", `array ${array} of ${state.dir} is over`);
  }
  return record;
}

export async function isOpen(state: StateFolder, array: string): Promise<boolean> {
  return stat(leasesPath(state, array)).then(
    () => true,
    () => false,
  );
}

/** No task of these arrays begins or commits anything any more. */
export async function closeArray(state: StateFolder, array: string): Promise<void> {
  const path = leasesPath(state, array);
  const gone = state.path("partial", `leases-${array}`);
  await onDisk({ operation: "delete", path }, async () => {
    try {
      await rename(path, gone);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    await rm(gone, { recursive: true, force: true });
    await rm(planPath(state, array), { force: true });
    await rm(environmentPath(state, array), { force: true });
  });
}

/** What another run begins makes every plan of before out of date: which arrays were not over. */
export async function closeArrays(state: StateFolder): Promise<readonly string[]> {
  const open = await readNames(state.path("leases"));
  for (const array of open) await closeArray(state, array);
  return open;
}

/** What became of an array, for people and programs. */
export async function writeArrayReport(
  state: StateFolder,
  array: string,
  report: Readonly<Record<string, unknown>>,
): Promise<string> {
  const path = state.path("arrays", `${array}${REPORT}`);
  const text = JSON.stringify({ kind: "gantry-array-report", version: 1, array, ...report }, null, 2);
  await writeFileDurably(path, `${text}\n`, { temporaryIn: state.path("partial") });
  return path;
}

/** The lines of one slice. Throws `disk-error` when they are not those that were planned. */
export async function readSlice(
  state: StateFolder,
  { array, slices }: ArrayRecord,
  index: number,
): Promise<string[]> {
  const slice = slices[index] as Slice;
  const path = planPath(state, array);
  return onDisk({ operation: "read", path }, async () => {
    const file = await open(path, "r");
    try {
      const bytes = Buffer.alloc(slice.length);
      const { bytesRead } = await file.read(bytes, 0, slice.length, slice.at);
      const lines = bytes.subarray(0, bytesRead).toString("utf8").split("\n");
      if (lines.pop() !== "" || lines.length !== slice.items) {
        throw new RunError("disk-error", `${path} was cut or changed`, {
          hint: "plan again with `gantry slurm resume`",
        });
      }
      return lines;
    } finally {
      await file.close();
    }
  });
}

const recordPath = (state: StateFolder, array: string): string => state.path("arrays", `${array}.json`);
const planPath = (state: StateFolder, array: string): string => state.path("arrays", `${array}.jsonl`);

async function readRecord(state: StateFolder, array: string): Promise<ArrayRecord> {
  const path = recordPath(state, array);
  const text = await onDisk({ operation: "read", path }, () => readFile(path, "utf8"));
  return checkHeader(text, ARRAY_KIND, ARRAY_VERSION, path) as unknown as ArrayRecord;
}
