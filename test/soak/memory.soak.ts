/** Bars of memory and time (design: one process, constant memory): the real binary, its peak printed. */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  createReadStream,
  mkdirSync,
  readdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/lib/context.ts";
import { filePath } from "../../src/model/place.ts";
import { formatReceipt, formatReceiptsHeader } from "../../src/model/receipt.ts";
import { safePlace } from "../../src/pipeline/planning.ts";
import { LAYOUTS } from "../../src/sources/nbia/map.ts";
import { readItems } from "../../src/state/selections.ts";
import {
  type Ended,
  megabytes,
  runGantry,
  type ServerProcess,
  scratchFolder,
  startServer,
} from "./processes.ts";

const BAR_BYTES = 200_000_000;

function tell(what: string, ended: Ended): void {
  const seconds = (ended.tookMs / 1000).toFixed(1);
  process.stdout.write(
    `  ${what}: exit ${ended.exit}, ${seconds} s, peak RSS ${megabytes(ended.peakRssBytes)}\n`,
  );
}

describe("memory and time", () => {
  const home = scratchFolder("home");
  afterAll(() => home.remove());

  describe("a reply of 200,000 rows", () => {
    let server: ServerProcess;
    beforeAll(async () => {
      server = await startServer({ series: 200_000, imagesPerSeries: 1, imageBytes: 2_000, seed: 3 });
    });
    afterAll(() => server.close());

    it.each(["jsonl", "csv", "json"])("is listed as %s", async (format) => {
      const ended = await runGantry(["find", "tcia:", "--format", format], home.path, server.url);
      tell(`find --format ${format}, 200,000 rows`, ended);
      expect(ended.exit, ended.stderr).toBe(0);
      expect(ended.peakRssBytes).toBeLessThan(BAR_BYTES);
    });
  });

  describe("questions about a million series", () => {
    let server: ServerProcess;
    beforeAll(async () => {
      server = await startServer({ series: 1_000_000, imagesPerSeries: 1, imageBytes: 2_000, seed: 3 });
    });
    afterAll(() => server.close());

    it.each([
      ["find", "tcia:", "--level", "patient", "--format", "jsonl"],
      ["find", "tcia:", "--level", "study", "--format", "jsonl"],
      ["find", "tcia:", "--count"],
      ["values", "tcia:", "series", "--format", "jsonl"],
      ["values", "tcia:", "model", "--cache-dir", join(home.path, "replies")],
      ["values", "tcia:", "modality", "--since", "2000-01-01", "--cache-dir", join(home.path, "replies")],
    ])("%s %s %s %s %s %s", async (...args) => {
      const ended = await runGantry(args, home.path, server.url);
      tell(args.join(" "), ended);
      expect(ended.exit, ended.stderr).toBe(0);
      expect(ended.peakRssBytes).toBeLessThan(BAR_BYTES);
    });
  });

  it("one series of 2 GB", async () => {
    const server = await startServer({ series: 1, imagesPerSeries: 20, imageBytes: 100_000_000, seed: 3 });
    const target = scratchFolder("large");
    try {
      const ended = await runGantry(["get", "tcia:", "-o", target.path], home.path, server.url);
      tell("get one series of 2 GB", ended);
      expect(ended.exit, ended.stderr).toBe(0);
      expect(ended.peakRssBytes).toBeLessThan(BAR_BYTES);
    } finally {
      target.remove();
      await server.close();
    }
  });

  it.each([
    { series: 1_000, imagesPerSeries: 100, withFiles: true },
    { series: 100_000, imagesPerSeries: 1, withFiles: true },
    { series: 1_000_000, imagesPerSeries: 1, withFiles: false },
  ])(
    "a second run over $series series of $imagesPerSeries",
    async ({ series, imagesPerSeries, withFiles }) => {
      const server = await startServer({ series, imagesPerSeries, imageBytes: 2_000, seed: 3 });
      const target = scratchFolder("many");
      try {
        // A folder as if all had been fetched: the archive's own listing, and a receipt for each item.
        const saved = join(home.path, "selection.jsonl");
        const found = await runGantry(
          ["find", "tcia:", "--save", saved, "--format", "jsonl"],
          home.path,
          server.url,
        );
        tell(`find --save of ${series}`, found);
        expect(found.exit, found.stderr).toBe(0);
        await pretendFetched(target.path, saved, withFiles ? () => "" : null);
        rmSync(saved);

        // Asked anew, compared, and the derived files made; then once more, with nothing left to do at all.
        const runs = [found];
        for (const time of withFiles ? ["first", "second"] : ["first"]) {
          const ended = await runGantry(["get", "-o", target.path, "--json"], home.path, server.url, {
            keepStdout: true,
          });
          tell(`get -o DIR over ${series} finished series, ${time} time`, ended);
          expect(ended.exit, ended.stderr).toBe(0);
          const planned = eventOf(ended.stdout, "planned");
          expect(planned).toMatchObject({ here: { items: series }, fetch: { items: 0 } });
          process.stdout.write(`    the plan stood ${planned.afterSeconds} s after the start of the run\n`);
          runs.push(ended);
        }
        const status = await runGantry(["status", target.path], home.path, server.url);
        tell(`status of ${series} finished series`, status);
        expect(status.exit, status.stderr).toBe(0);
        for (const each of [...runs, status]) expect(each.peakRssBytes).toBeLessThan(BAR_BYTES);
      } finally {
        target.remove();
        await server.close();
      }
    },
  );

  it.each([100_000, 1_000_000])("%d dropped series", async (series) => {
    const server = await startServer({ series, imagesPerSeries: 1, imageBytes: 2_000, seed: 3 });
    const target = scratchFolder("dropped");
    try {
      const saved = join(home.path, "selection.jsonl");
      const found = await runGantry(["find", "tcia:", "--save", saved], home.path, server.url);
      expect(found.exit, found.stderr).toBe(0);
      await pretendFetched(target.path, saved, (item) => item);
      rmSync(saved);
      const collections = new Set(readdirSync(target.path).filter((name) => name !== ".gantry"));
      const words = ["drop", target.path, "--collection", [...collections].join(","), "--yes"];
      const ended = await runGantry(words, home.path, server.url, { keepStdout: true });
      tell(`drop of ${series} series`, ended);
      expect(ended.exit, ended.stderr).toBe(0);
      expect(readdirSync(target.path).filter((name) => collections.has(name))).toEqual([]);
      expect(ended.peakRssBytes).toBeLessThan(BAR_BYTES);
    } finally {
      target.remove();
      await server.close();
    }
  });
});

/** The first event of a type, and how long after the first event of all it came. */
function eventOf(stdout: string, type: string): { readonly afterSeconds: string } {
  const events = stdout.split("\n", 20_000).filter((line) => line !== "");
  const found = events.find((line) => line.includes(`"type":"${type}"`)) ?? "{}";
  const at = (line: string): number => Date.parse((JSON.parse(line) as { t: string }).t);
  const afterSeconds = ((at(found) - at(events[0] ?? "{}")) / 1000).toFixed(1);
  return { ...(JSON.parse(found) as object), afterSeconds };
}

/** The saved selection, and a receipt for each of its items; `content` fills its files, null: it has none. */
async function pretendFetched(
  dir: string,
  selection: string,
  content: ((item: string) => string) | null,
): Promise<void> {
  const gantry = join(dir, ".gantry");
  for (const name of ["selections", "receipts", "runs", "partial", "quarantine", "logs"])
    mkdirSync(join(gantry, name), { recursive: true });
  writeFileSync(
    join(gantry, "folder.json"),
    `${JSON.stringify({ kind: "gantry-folder", version: 1, layout: "descriptive", sink: "folder" })}\n`,
  );
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(selection)) digest.update(chunk as Buffer);
  copyFileSync(selection, join(gantry, "selections", `${digest.digest("hex")}.jsonl`));
  const path = join(gantry, "receipts", "pretended.jsonl");
  writeFileSync(path, formatReceiptsHeader("pretended"));
  const layout = LAYOUTS.descriptive;
  if (!layout) throw new Error("the source has no descriptive layout");
  const at = systemClock.now().toISOString();
  let batch = "";
  for await (const item of readItems(selection)) {
    const place = safePlace(layout(item));
    const text = content?.(item.id) ?? "";
    const md5 = createHash("md5").update(text).digest("hex");
    const files = Array.from({ length: content ? (item.files ?? 0) : 0 }, (_, index) => {
      const path = filePath(place, `1-${index + 1}.dcm`);
      const mtimeMs = 1_700_000_000_000;
      mkdirSync(dirname(join(dir, path)), { recursive: true });
      writeFileSync(join(dir, path), text);
      utimesSync(join(dir, path), mtimeMs / 1000, mtimeMs / 1000);
      return { path, bytes: text.length, digest: `md5:${md5}` as const, mtimeMs };
    });
    batch += formatReceipt({
      item: item.id,
      type: "stored",
      supersedes: [],
      archive: item.archive,
      revision: item.revision,
      at,
      from: "http://127.0.0.1",
      tookMs: 1,
      proof: ["md5", "count", "size"],
      disputed: null,
      place,
      files,
      damaged: [],
      facts: { SOPClassUID: "1.2.840.10008.5.1.4.1.1.2" },
    }).line;
    if (batch.length > 1 << 20) {
      writeFileSync(path, batch, { flag: "a" });
      batch = "";
    }
  }
  writeFileSync(path, batch, { flag: "a" });
}
