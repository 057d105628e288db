import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { StoredFile } from "../../src/model/receipt.ts";
import { safePath } from "../../src/model/safe-path.ts";
import { createFolderSink } from "../../src/sinks/folder.ts";
import { listAll, temporaryDir } from "../support/gantry.ts";
import { put, sinkContract } from "./sink.contract.ts";

async function stand(base: string, scratch: boolean) {
  const dir = join(base, "target");
  const partial = join(dir, "..", "partial");
  const quarantine = join(base, "quarantine");
  const away = scratch ? join(base, "scratch") : null;
  const sink = createFolderSink({ run: "run", dir, partial, scratch: away, quarantine, shardBytes: null });
  return {
    sink,
    dir,
    unfinished: [partial, ...(away ? [away] : [])],
    quarantine,
    visible: () => listAll(dir),
    read: ({ path }: StoredFile) => readFile(join(dir, path), "utf8"),
  };
}

sinkContract("folder", { loose: true }, (base) => stand(base, false));
sinkContract("folder with --scratch", { loose: true }, (base) => stand(base, true));

const item = {
  id: "x:1",
  revision: "1",
  archive: "tcia",
  address: "tcia:1",
  bytes: null,
  files: null,
  labels: {},
};

describe("the folder sink with --scratch", () => {
  it("proves again what it copies from scratch", async () => {
    const base = await temporaryDir();
    const { sink, dir } = await stand(base, true);
    const writer = await sink.begin(item, { folder: safePath(["a"]), file: null, prefix: "" });
    await put(writer, "1.dcm", "the truth");
    const [path] = await listAll(join(base, "scratch"));
    await writeFile(join(base, "scratch", path ?? ""), "the false");
    await expect(writer.commit([])).rejects.toMatchObject({ code: "disk-error" });
    await writer.abort();
    expect(await listAll(dir)).toEqual([]);
  });
});
