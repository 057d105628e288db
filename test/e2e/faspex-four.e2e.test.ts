/** Packages of Faspex 4, which tell nothing of their files: one item, proved by its own list of sums once it is here. */
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  freshDir,
  hashTree,
  listAll,
  listFiles,
  runVerify,
  type Stage,
  startStage,
  temporaryDir,
} from "../support/gantry.ts";

const SLIDES = 40;
const TEXTS: Readonly<Record<string, string>> = Object.fromEntries([
  ["Größe und Maß.txt", "a name with blanks\n"],
  ...Array.from({ length: SLIDES }, (_, n) => [`slides/${n}.svs`, `slide ${n}\n`.repeat(2000)]),
]);
const md5 = (text: string): string => createHash("md5").update(text).digest("hex");

let data: string;
let stage: Stage;
let links: Readonly<Record<string, string>>;
let dir: string;
beforeAll(async () => {
  data = await temporaryDir();
  for (const [name, text] of Object.entries(TEXTS)) await put(name, text);
  await put("Four.sums", sumsOf({}));
  stage = await startStage({ dataDir: data });
  links = await stage.sandbox.links();
});
beforeEach(async () => {
  stage.control.reset();
  dir = await freshDir();
});

const put = async (name: string, text: string): Promise<void> => {
  const path = join(data, "Four", name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
};
const sumsOf = (changed: Readonly<Record<string, string>>): string =>
  Object.entries({ ...TEXTS, ...changed })
    .map(([name, text]) => `${md5(text)}  ${name}\n`)
    .join("");
const run = async (...args: string[]) => {
  const { code, stdout, stderr } = await stage.run(args);
  return { code, stdout, said: stdout + stderr };
};
const secretOf = (link: string): string => new URL(link).searchParams.get("passcode") ?? "";
const sessions = () => stage.control.requests().filter(({ method }) => method === "ASCP");
const receipt = async (): Promise<{ proof: string[]; files: unknown[] }> => {
  const [path] = (await listAll(dir)).filter((each) => each.startsWith(".gantry/receipts/"));
  const lines = (await readFile(join(dir, path ?? ""), "utf8")).trim().split("\n");
  return JSON.parse(lines.at(-1) ?? "");
};

describe("a delivery", () => {
  it("is one package, of which plainly nothing more is known", async () => {
    const link = links.four ?? "";
    const { code, stdout, said } = await run("ls", "-l", link, "--format", "json");
    expect(code, said).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject([
      { Name: "PKG - Four", Type: "package", Bytes: null, Files: null, address: "/" },
    ]);
    expect(said).toContain("says nothing of the files in it");
    expect(said).not.toContain(secretOf(link));
    const path = await run("get", link, "slides", "-o", dir);
    expect(path).toMatchObject({ code: 2, said: expect.stringContaining("it comes whole") });
    const glob = await run("get", link, "--include", "**/*.svs", "-o", dir);
    expect(glob).toMatchObject({ code: 2, said: expect.stringContaining("leave out --include") });
  });

  it.each(["four", "four-bare"])("%s comes whole and proved, by one ascp", async (name) => {
    const link = links[name] ?? "";
    const { code, said } = await run("get", link, "-o", dir);
    expect(code, said).toBe(0);
    expect(said).toContain("listed-md5, count, size, ascp");
    expect((await listFiles(dir)).filter((path) => path.startsWith("PKG"))).toHaveLength(SLIDES + 2);
    expect((await receipt()).files).toHaveLength(SLIDES + 2);
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0 });
    const again = await run("get", "-o", dir);
    expect(again).toMatchObject({ code: 0, said: expect.stringContaining("Nothing to fetch") });
    expect(sessions()).toHaveLength(1);
    const holders: string[] = [];
    for (const path of await listFiles(join(dir, ".gantry")))
      if ((await readFile(join(dir, ".gantry", path), "utf8")).includes(secretOf(link))) holders.push(path);
    expect(holders).toEqual([expect.stringMatching(/^private\/[0-9a-f]{16}\.link$/u)]);
  });
});

it("a transfer that is cut goes on with what has come", async () => {
  stage.control.setFaults([{ kind: "ascp-error", code: 40, afterBytes: 300_000 }]);
  const cut = await run("get", links.four ?? "", "-o", dir, "--retries", "0");
  expect(cut).toMatchObject({ code: 5, said: expect.stringContaining("data stopped coming") });
  expect((await listFiles(dir)).filter((path) => path.startsWith("PKG"))).toEqual([]);
  stage.control.setFaults([]);
  const before = sessions().length;
  const { code, said } = await run("get", "-o", dir);
  expect(code, said).toBe(0);
  const [second, ...more] = sessions().slice(before);
  expect(more).toEqual([]);
  const whole = Object.values(TEXTS).join("").length;
  expect(second?.bytesSent).toBeLessThan(whole - 200_000);
  const clean = await freshDir();
  expect((await run("get", links.four ?? "", "-o", clean)).code).toBe(0);
  expect(await hashTree(dir)).toEqual(await hashTree(clean));
});

it("its list finds exactly the wrong files and the missing ones; the right ones are not fetched again", async () => {
  const wrong = ["slides/3.svs", "slides/17.svs", "slides/30.svs"];
  const other = Object.fromEntries(wrong.map((name) => [name, "other"]));
  await put("Four.sums", sumsOf({ ...other, "slides/gone.svs": "gone", "lost.txt": "lost" }));
  stage = await startStage({ dataDir: data });
  links = await stage.sandbox.links();
  const failed = await run("get", links.four ?? "", "-o", dir, "--retries", "0");
  expect(failed.code, failed.said).toBe(6);
  expect(failed.said).toContain(
    "3 files are not what the archive vouches for: slides/17.svs, slides/3.svs, slides/30.svs; 2 files did not come although the checksum list names them: lost.txt, slides/gone.svs",
  );
  expect((await listFiles(dir)).filter((path) => path.startsWith("PKG"))).toEqual([]);
  const before = sessions().length;
  expect((await run("get", "-o", dir, "--retries", "0")).code).toBe(6);
  const [again, ...more] = sessions().slice(before);
  expect(more).toEqual([]);
  // What no list names is not proved right, and comes again, too.
  expect(again?.bytesSent).toBeGreaterThan(3 * 18_000);
  expect(again?.bytesSent).toBeLessThan(5 * 20_000);
});

it("without a list of sums it is proved by ascp's own count and sizes", async () => {
  const bare = await temporaryDir();
  await mkdir(join(bare, "Bare"));
  await writeFile(join(bare, "Bare/notes.text"), "notes");
  const other = await startStage({ dataDir: bare });
  const { code, stdout, stderr } = await other.run([
    "get",
    (await other.sandbox.links()).four ?? "",
    "-o",
    dir,
  ]);
  expect(code, stdout + stderr).toBe(0);
  expect((await receipt()).proof).toEqual(["count", "size", "ascp"]);
});

describe("a link that opens nothing: one sentence, where to copy a new one, exit 4", () => {
  it.each([
    ["four-unknown", /has expired, or the server has a newer Faspex by now/u],
    ["four-moved", /has expired, or the server has a newer Faspex by now/u],
    ["four-deleted", /is empty, or its content was deleted/u],
  ])("%s", async (name, what) => {
    const { code, said } = await run("get", links[name] ?? "", "-o", dir);
    expect({ code, said }).toEqual({ code: 4, said: expect.stringMatching(what) });
    expect(said).toContain("copy a new link from the page");
    expect(said).not.toContain(secretOf(links[name] ?? ""));
  });
});
