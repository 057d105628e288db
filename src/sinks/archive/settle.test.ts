import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import type { ItemState } from "../../model/receipt.ts";
import { beginStateFolder } from "../../state/state-folder.ts";
import { settleArchives } from "./settle.ts";
import { Shelf } from "./shelf.ts";

it("ends with what the disk says when the lines of an index can't be written", async () => {
  const dir = await mkdtemp(join(tmpdir(), "gantry-settle-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const state = await beginStateFolder(dir, {}, { layout: "uid", sink: "tar", archive: "x" });
  // In the place of the file that they are written to.
  await mkdir(join(dir, "index-lines"));
  async function* states() {
    for (let number = 0; number < 500; number += 1) {
      const packed = { archive: "x.tar", offset: number * 1024, length: 1024, at: 0 };
      const file = { path: `${number}.dcm`, bytes: 1, digest: `md5:${"0".repeat(32)}`, mtimeMs: 0, packed };
      yield { current: { item: `file:${number}`, files: [file] } } as unknown as ItemState;
    }
  }
  const settled = settleArchives(new Shelf(state, "tar", "x"), state, {
    ...{ run: "run", states, life: () => "gone" as const, publish: true, temporary: async () => dir },
  });
  await expect(settled).rejects.toMatchObject({ code: "disk-error" });
});
