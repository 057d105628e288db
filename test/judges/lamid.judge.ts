/**
 * LAMID_PREVENT-AD (xlecours/LAMID_PREVENT-AD, pull request 5): the published script for the open PREVENT-AD data, in its
 * BIDS form. Its host is built in and HTTPS only; it is led to the sandbox as `requests` honours proxies.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { rm, truncate } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { buildPhantomStudies } from "../../src/sandbox/data/phantom-study.ts";
import { filesOf } from "../../src/sandbox/data/studies.ts";
import { listFiles, startStage, temporaryDir } from "../support/gantry.ts";
import { lorisAccount } from "../support/loris.ts";
import { startArchiveFront } from "./archive-front.ts";
import { lack, program, pythonWith, runClient } from "./clients.ts";

const script = program("LAMID_PREVENT-AD.py");
const python = pythonWith("requests");
const missing = lack(script === null ? null : python, "LAMID_PREVENT-AD.py, or Python with requests,");

const md5 = (bytes: Uint8Array): string => createHash("md5").update(bytes).digest("hex");

describe.skipIf(script === null || python === null)(`LAMID_PREVENT-AD${missing}`, () => {
  it("fetches the whole export of generated data, and nothing the second time", async () => {
    const stage = await startStage();
    const front = await startArchiveFront(stage.sandbox.url);
    const folder = await temporaryDir();
    const run = () =>
      runClient(python ?? "", [script ?? "", "-o", folder, "-t", "bids"], {
        cwd: folder,
        env: front.environment,
        input: "demo\ndemo\n",
      });
    const first = await run();
    expect(first.code, first.said).toBe(0);
    expect(front.refused).toEqual([]);
    const wanted = new Map<string, string>();
    for (const study of buildPhantomStudies().studies.filter(({ form }) => form === "bids"))
      for (const file of filesOf(study)) {
        const path = file.path.slice(study.name.length + 1);
        if (path.startsWith("assembly/") || path.includes("/ses-NAPFU03/")) continue;
        const chunks: Uint8Array[] = [];
        for await (const chunk of file.read()) chunks.push(chunk);
        wanted.set(path, md5(Buffer.concat(chunks)));
      }
    const got = (await listFiles(folder)).filter((path) => !path.endsWith(".etag"));
    expect(got.sort()).toEqual([...wanted.keys()].sort());
    for (const path of got)
      expect([path, md5(readFileSync(join(folder, path)))]).toEqual([path, wanted.get(path)]);
    stage.control.clearRequests();
    expect((await run()).code).toBe(0);
    const files = stage.control.requests().filter(({ path }) => !/\/(login|bids\/)$/.test(path));
    expect(new Set(files.map(({ status }) => status))).toEqual(new Set([304]));

    // What it left is taken over, and what is then missing or cut is all that is fetched.
    const [cut = "", lost = ""] = got.filter((path) => path.endsWith(".nii.gz"));
    await truncate(join(folder, cut), 300);
    await rm(join(folder, lost));
    stage.control.clearRequests();
    const environment = { ...stage.environment, ...lorisAccount };
    const { summary } = await stage.get(["preventad:"], { dir: folder }, { environment });
    expect(summary).toMatchObject({ exit: 0, failed: 0 });
    const images = stage.control.requests().filter(({ path }) => path.endsWith(".nii.gz"));
    expect(images.filter(({ status }) => status === 200).length).toBe(2);
    for (const path of got)
      expect([path, md5(readFileSync(join(folder, path)))]).toEqual([path, wanted.get(path)]);
  });
});
