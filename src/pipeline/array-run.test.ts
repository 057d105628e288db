/** Tasks of an array that end in the middle of a large file, and who goes on with it. */
import { createHash, randomBytes } from "node:crypto";
import { open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type FileServer, startFileServer } from "../../test/support/file-server.ts";
import { freshDir, listAll, temporaryDir } from "../../test/support/gantry.ts";
import { type PipelineOptions, runPipeline } from "../../test/support/pipeline.ts";
import { RunError } from "../errors.ts";
import { createRedactor } from "../lib/redact.ts";
import { createWebSource } from "../sources/web/index.ts";
import { createHttp } from "../transports/http.ts";

const SIZE = 5 * 1024 * 1024 + 17;
const bytes = randomBytes(SIZE);
/** Of the file, what a task got before it ended. */
const CAME = 2_000_000;
const http = createHttp({ userAgent: "test", connections: 4, stallTimeoutMs: 60_000, environment: {} });
const source = createWebSource({
  archive: "web",
  url: "https://",
  http,
  redactor: createRedactor(),
  secrets: {},
  settings: {},
});

let server: FileServer;
let dir: string;
let array: string;
beforeAll(async () => {
  server = await startFileServer({});
});
afterAll(async () => {
  await http.close();
  await server.close();
});
beforeEach(async () => {
  server.files.set("/big.bin", { bytes, type: "application/octet-stream", modified: new Date("2020-01-02") });
  server.setFaults([]);
  dir = await freshDir();
  const { events } = await runPipeline(source, [`${server.url}/big.bin`], {
    dir,
    array: { part: "plan", tasks: 2, job: [] },
  });
  const [divided] = events.flatMap((event) => (event.type === "divided" ? [event.array] : []));
  array = divided as string;
  server.requests.length = 0;
});

const task = (number: number, options: Partial<PipelineOptions> = {}) =>
  runPipeline(source, [], { dir, array: { part: "task", array, task: number }, ...options });
const finish = () => runPipeline(source, [], { dir, array: { part: "finish", array } });
const stored = async (): Promise<string> =>
  createHash("sha256")
    .update(await readFile(join(dir, "big.bin")))
    .digest("hex");
const RIGHT = createHash("sha256").update(bytes).digest("hex");
const firstBytes = (): (number | null)[] =>
  server.requests.map(({ headers }) => {
    const from = /^bytes=(\d+)-$/u.exec(headers.range ?? "")?.[1];
    return from === undefined ? null : Number(from);
  });
const halfFiles = async () => (await listAll(dir)).filter((path) => path.endsWith(".part"));

/** A task that is told to end once it has so much of the file: `CAME` more than was there. */
async function cutShort(number: number, has = CAME, options: Partial<PipelineOptions> = {}): Promise<void> {
  server.setFaults([{ kind: "stall", route: "/data/**", afterBytes: CAME, count: 1 }]);
  const ending = new AbortController();
  const { summary } = await task(number, {
    ...options,
    signal: ending.signal,
    onEvent: (event) => {
      if (event.type === "progress" && event.doneBytes >= has)
        ending.abort(new RunError("terminated", "the time is over"));
    },
  });
  expect(summary.exit).toBe(143);
}

/** The task that was cut short as one on a node that was lost: it may live there, with its part file open. */
async function startOrphan({ silent }: { readonly silent: boolean }) {
  await cutShort(0);
  const folder = join(dir, ".gantry/runs");
  const records = (await readdir(folder)).filter((name) => name.endsWith(".json"));
  const [name] = records.filter((each) => !each.startsWith(array));
  const record = JSON.parse(await readFile(join(folder, name as string), "utf8")) as { run: string };
  const beat = 7;
  const lost = { ...record, host: "n17", exit: null, beat, state: "transferring" };
  await writeFile(join(folder, name as string), `${JSON.stringify(lost)}\n`);
  if (silent) await writeFile(join(folder, `${record.run}.silent`), String(beat));
  else await rm(join(dir, ".gantry/leases", array, "0.1"));
  const [half] = await halfFiles();
  const file = await open(join(dir, half as string), "r+");
  return {
    run: record.run,
    file,
    /** All that would come behind what it had. */
    writeOtherBytes: async () => {
      await file.write(randomBytes(SIZE - CAME), 0, SIZE - CAME, CAME);
    },
  };
}

describe("a large file that a task got half of", () => {
  it("is gone on with by another task, and by one of the next array", async () => {
    await cutShort(0);
    expect(await halfFiles()).toHaveLength(1);
    await cutShort(1, 2 * CAME);
    expect(await halfFiles()).toHaveLength(1);
    const planned = await runPipeline(source, [], {
      dir,
      array: { part: "plan", tasks: 2, known: true, job: [] },
    });
    expect(planned.summary).toMatchObject({ exit: 0 });
    array = planned.summary.run;
    expect((await task(0)).summary).toMatchObject({ exit: 0, stored: { items: 1 } });
    const [first, second, third] = firstBytes();
    expect(first).toBeNull();
    expect(second).toBe(CAME);
    expect(third).toBe(2 * CAME);
    expect(await stored()).toBe(RIGHT);
    expect((await finish()).summary).toMatchObject({ exit: 0 });
    expect((await listAll(join(dir, ".gantry/partial"))).filter((path) => path !== "")).toEqual([]);
  });

  it("is gone on with on the scratch disk of the same host", async () => {
    const scratch = await temporaryDir();
    await cutShort(0, CAME, { scratch });
    expect(await halfFiles()).toEqual([]);
    expect((await task(1, { scratch })).summary).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect(firstBytes()).toEqual([null, CAME]);
    expect(await stored()).toBe(RIGHT);
    expect(await listAll(scratch)).toEqual([]);
  });

  it("is a copy while the task of a lost node may still write to its own, and is right whatever that writes", async () => {
    const orphan = await startOrphan({ silent: true });
    // The taker is cut once in the middle of the rest, so that it reads its part file again.
    server.setFaults([{ kind: "cut", route: "/data/**", afterBytes: 1_000_000, count: 1 }]);
    const writes: Promise<void>[] = [];
    const { summary } = await task(1, {
      retries: 1,
      onEvent: (event) => {
        if (event.type === "item-retry") writes.push(orphan.writeOtherBytes());
      },
    });
    expect(summary).toMatchObject({ exit: 0, stored: { items: 1 } });
    expect(writes).toHaveLength(1);
    await Promise.all(writes);
    await orphan.file.close();
    const [, first, second] = firstBytes();
    expect(first).toBe(CAME);
    expect(second).toBeGreaterThan(CAME);
    expect(await stored()).toBe(RIGHT);
    // Nothing of the file is left where the orphan was at work.
    expect(await halfFiles()).toEqual([]);
  });

  it("is not taken from a task that lives", async () => {
    const orphan = await startOrphan({ silent: false });
    expect((await task(1)).summary).toMatchObject({ exit: 0, stored: { items: 1 } });
    await orphan.file.close();
    expect(firstBytes()).toEqual([null, null]);
    expect(await halfFiles()).toEqual([expect.stringContaining(orphan.run)]);
  });
});
