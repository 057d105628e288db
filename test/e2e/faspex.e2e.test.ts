/** The seven steps of TCIA's notebook for Aspera packages, and what must never be said aloud on the way. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { tinyDataset } from "../../src/sandbox/tiny-dataset.ts";
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

let stage: Stage;
let links: Readonly<Record<string, string>>;
let dir: string;
beforeAll(async () => {
  stage = await startStage({ data: tinyDataset() });
  links = await stage.sandbox.links();
});
beforeEach(async () => {
  stage.control.reset();
  dir = await freshDir();
});

const link = (name: string): string => links[name] ?? "";
const secretOf = (name: string): string => {
  const context = new URL(link(name)).searchParams.get("context") ?? "";
  return context.replace(/=+$/u, "");
};
const run = async (...args: string[]) => {
  const { code, stdout, stderr } = await stage.run(args);
  return { code, stdout, stderr, said: stdout + stderr };
};
const json = async (...args: string[]): Promise<Record<string, string | number | null>[]> => {
  const { code, stdout, said } = await run(...args, "--format", "json");
  expect(code, said).toBe(0);
  return JSON.parse(stdout);
};
const PLACE = "PKG - Phantom_tumor_ROIs_v1";
const md5sums = (folder: string) =>
  spawnSync("md5sum", ["-c", "--quiet", "Phantom_tumor_ROIs_v1.sums"], { cwd: folder });

describe("the notebook's steps", () => {
  it("the whole package comes as it lies there, proved, so that its list of checksums fits", async () => {
    const { code, said } = await run("get", link("package"), "-o", dir);
    expect(code, said).toBe(0);
    expect(said).toContain("md5, count, size, ascp");
    const found = md5sums(join(dir, PLACE));
    expect(found.stderr.toString() + found.stdout.toString()).toBe("");
    expect(found.status).toBe(0);
    expect((await runVerify(dir)).summary).toMatchObject({ exit: 0 });
    const again = await run("get", "-o", dir);
    expect(again.code).toBe(0);
    expect(again.said).toContain("Nothing to fetch");
  });

  it("the root and a folder are listed with sizes and times, and what each row gives is the PATH to append", async () => {
    const root = await json("ls", link("package"));
    expect(root.find((row) => row.address === "README.txt")).toMatchObject({ Type: "file", Bytes: 47 });
    const folder = await json("ls", link("package"), "/Phantom_HER2_cohort/SVS");
    expect(folder.map((row) => row.Bytes)).toEqual([90_000, 121_000, 152_000]);
    const { code } = await run("get", link("package"), String(folder[0]?.address), "-o", dir);
    expect(code).toBe(0);
    expect(await listFiles(dir)).toContain(`${PLACE}/Phantom_HER2_cohort/SVS/Phantom_Case_01.svs`);
  });

  it("a folder, the list of checksums, and two files come into their places, or flat", async () => {
    const { code, said } = await run("get", link("threshold"), "Phantom_HER2_cohort/Annotations", "-o", dir);
    expect(code, said).toBe(0);
    // `multi_session` of its specification is a size from which files are split, and no number of processes.
    const transfers = stage.control.requests().filter(({ method }) => method === "ASCP");
    expect(transfers.map(({ query }) => query.part)).toEqual([undefined, undefined]);
    const two = await run("get", link("threshold"), "README.txt", "/Phantom_tumor_ROIs_v1.sums", "-o", dir);
    expect(two.code, two.said).toBe(0);
    expect((await listFiles(dir)).filter((path) => path.startsWith(PLACE))).toEqual([
      ...[1, 2, 3].map((n) => `${PLACE}/Phantom_HER2_cohort/Annotations/Phantom_Case_0${n}.xml`),
      `${PLACE}/Phantom_tumor_ROIs_v1.sums`,
      `${PLACE}/README.txt`,
    ]);
    const flat = await freshDir();
    const words = [
      "get",
      link("package"),
      "Phantom_HER2_cohort/SVS",
      "README.txt",
      "--layout",
      "flat",
      "-o",
      flat,
    ];
    expect((await run(...words)).code).toBe(0);
    expect((await listFiles(flat)).filter((path) => !path.startsWith("."))).toEqual(
      expect.arrayContaining(["README.txt", "SVS/Phantom_Case_01.svs", "SVS/Phantom_Case_03.svs"]),
    );
  });
});

describe("without ascp", () => {
  /** A home without any product, and a PATH with Node alone. */
  const bare = async (...args: string[]) => {
    const { code, stdout, stderr } = await stage.run(args, {
      env: { GANTRY_ASCP: "", PATH: dirname(process.execPath) },
    });
    return { code, said: stdout + stderr };
  };

  it.each(["gateway", "gateway2", "gateway3"])("%s: files come over HTTP and are proved", async (name) => {
    const { code, said } = await bare("get", link(name), "-o", dir);
    expect(code, said).toBe(0);
    expect(said).toContain("md5, count, size.");
    expect(md5sums(join(dir, PLACE)).status).toBe(0);
  });

  it.each([
    ["package", "without an HTTP gateway"],
    ["gateway-forbidden", "may not be downloaded over HTTP"],
  ])("%s: what is needed is said before anything begins", async (name, why) => {
    const { code, said } = await bare("get", link(name), "-o", dir);
    expect(code).toBe(4);
    expect(said).toContain(why);
    expect(said).toMatch(/ascp, and outbound TCP and UDP port 33001/u);
    expect((await listFiles(dir)).filter((path) => path.startsWith("PKG"))).toEqual([]);
  });

  it("a variable that names an ascp which is none is told, and files come over HTTP", async () => {
    const words = ["get", link("gateway"), "README.txt", "-o", dir];
    const { code, stderr } = await stage.run(words, { env: { GANTRY_ASCP: "/nonexistent" } });
    expect(code, stderr).toBe(0);
    expect(stderr).toContain("GANTRY_ASCP names /nonexistent");
  });

  it("doctor says of a link what is in the way", async () => {
    const { code, said } = await bare("doctor", link("package"), "--format", "tsv");
    expect(said).toMatch(/link\tok/u);
    expect(said).toMatch(/ascp\tfailed/u);
    expect(code).toBeGreaterThan(0);
    expect(said).not.toContain(secretOf("package"));
  });
});

it("doctor goes from the link to the ports", async () => {
  const { code, said } = await run("doctor", link("package"), "--format", "tsv");
  expect(code, said).toBe(0);
  for (const check of ["server", "link", "ascp", "key"])
    expect(said).toMatch(new RegExp(`\\t${check}\\tok`, "u"));
  expect(said).toMatch(/\ttcp \d+\tok/u);
  expect((await run("doctor", link("link-expired"))).code).toBe(4);
});

it("a list of checksums that was damaged on its way is replaced by the next get", async () => {
  const name = "Phantom_tumor_ROIs_v1.sums";
  const [damaged, sound] = [await freshDir(), dir];
  expect((await run("get", link("package"), name, "-o", sound)).code).toBe(0);
  const right = await readFile(join(sound, PLACE, name), "utf8");
  stage.control.setFaults([{ kind: "wrong-bytes" }]);
  await run("get", link("package"), name, "-o", damaged, "--retries", "0");
  expect(await readFile(join(damaged, PLACE, name), "utf8")).not.toBe(right);
  stage.control.reset();
  expect((await run("get", "-o", damaged)).code).toBe(0);
  expect(await readFile(join(damaged, PLACE, name), "utf8")).toBe(right);
});

it("receipts claim no more of ascp than it said: of a session without an end, of each file alone", async () => {
  stage.control.setFaults([{ kind: "ascp-no-final-frame" }]);
  await run("get", link("package"), "README.txt", "-o", dir, "--retries", "0");
  const folder = join(dir, ".gantry", "receipts");
  const text = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
  const proofs = [...text.join("").matchAll(/"proof":(\[[^\]]*\])/gu)].map(([, proof]) =>
    JSON.parse(proof ?? ""),
  );
  expect(proofs).toEqual([["md5", "count", "size", "ascp-file"]]);
});

it("an empty PATH is no whole package", async () => {
  const { code, stderr } = await run("get", link("package"), "", "-o", dir);
  expect(code, stderr).toBe(2);
  expect(stderr).toContain("a PATH is empty");
});

it("ls -l adds up folders, and --format sums is the package's list by path", async () => {
  const rows = await json("ls", "-l", link("package"));
  expect(rows.find((row) => row.address === "Phantom_HER2_cohort")).toMatchObject({
    Files: 6,
    Type: "folder",
  });
  const { code, stdout } = await run("ls", "-R", link("package"), "--format", "sums");
  expect(code).toBe(0);
  expect((await run("get", link("package"), "Phantom_tumor_ROIs_v1.sums", "-o", dir)).code).toBe(0);
  const list = await readFile(join(dir, PLACE, "Phantom_tumor_ROIs_v1.sums"), "utf8");
  const byPath = (text: string): string[] =>
    text
      .trim()
      .split("\n")
      .sort((a, b) => (a.slice(34) < b.slice(34) ? -1 : 1));
  expect(stdout.trim().split("\n")).toEqual(byPath(list));
});

it("among 1,000 files the list of checksums finds exactly the wrong and the missing ones; all others are stored", async () => {
  const data = await freshDir();
  const texts = new Map<string, string>();
  for (let n = 0; n < 1000; n += 1)
    texts.set(`tiles/${n % 20}/tile ${n}.tif`, `tile ${n}\n`.repeat(1 + (n % 9)));
  const names = [...texts.keys()];
  const wrong = [names[3], names[500], names[999]].map(String);
  const missing = ["tiles/0/gone.tif", "lost.txt"];
  const list = [...names, ...missing].map((name) => {
    const vouched = wrong.includes(name) ? "other" : (texts.get(name) ?? "gone");
    return `${createHash("md5").update(vouched).digest("hex")}  ${name}\n`;
  });
  for (const [name, text] of [...texts, ["Tiles.sums", list.join("")]] as const) {
    await mkdir(dirname(join(data, "Tiles", name)), { recursive: true });
    await writeFile(join(data, "Tiles", name), text);
  }
  const own = await startStage({ dataDir: data });
  const sessions = () => own.control.requests().filter(({ method }) => method === "ASCP");
  const get = async (...words: string[]) => {
    const before = sessions().length;
    const { code, stdout } = await own.run(["get", ...words, "-o", dir, "--retries", "0", "--json"]);
    const events = stdout.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
    const failed = events.filter(({ type }) => type === "item-failed");
    const named = failed.map(({ address, code: why }) => `${why} ${String(address).split(":").at(-1)}`);
    return { code, failed: named.sort(), transfers: sessions().slice(before) };
  };
  const { package: link = "" } = await own.sandbox.links();
  const said = [
    ...wrong.map((name) => `proof-digest ${name}`),
    ...missing.map((name) => `access-item ${name}`),
  ];
  const first = await get(link);
  expect(first).toMatchObject({ code: 3, failed: said.sort() });
  // Small files do not start an ascp each.
  expect(first.transfers.length).toBeLessThan(10);
  const stored = (await listFiles(dir)).filter((path) => path.startsWith("PKG - Tiles/"));
  expect(stored.sort()).toEqual(
    [...names.filter((name) => !wrong.includes(name)), "Tiles.sums"]
      .map((name) => `PKG - Tiles/${name}`)
      .sort(),
  );
  expect((await runVerify(dir)).summary).toMatchObject({ exit: 0 });
  const second = await get();
  expect(second).toMatchObject({ code: 3, failed: said.sort() });
  // The list is asked for again, and the three that were wrong.
  expect(second.transfers.flatMap(({ form }) => form.source ?? [])).toHaveLength(1 + wrong.length);
}, 120_000);

describe("odd packages", () => {
  it("names, sizes, links and a loop: all that is there comes once", async () => {
    expect((await run("ls", "-R", link("odd"))).stderr).toMatch(/loop\/up again leads back/u);
    const { code, said } = await run("get", link("odd"), "-o", dir);
    expect(code, said).toBe(0);
    const files = (await listFiles(dir)).filter((path) => path.startsWith("PKG"));
    expect(files).toHaveLength(17);
    expect(files.some((path) => path.endsWith("names/line%0Abreak.txt"))).toBe(true);
    expect(files.some((path) => path.includes("to a folder, untold/two.txt"))).toBe(true);
  });

  it.each(["offset", "slash", "workgroup", "no-recipient", "old", "short"])(
    "%s is listed whole",
    async (name) => {
      expect(await json("ls", "-R", link(name))).toHaveLength(14);
    },
  );

  it("an encrypted one needs its passphrase before anything begins, and comes out clear", async () => {
    const without = await run("get", link("encrypted"), "-o", dir);
    expect(without.code).toBe(4);
    expect(without.said).toContain("ASPERA_SCP_FILEPASS");
    const { code, stderr } = await stage.run(["get", link("encrypted"), "-o", dir], {
      env: { ASPERA_SCP_FILEPASS: "demo at rest" },
    });
    expect(code, stderr).toBe(0);
    expect(md5sums(join(dir, PLACE)).status).toBe(0);
  });
});

describe("links that open nothing", () => {
  it.each([
    ["link-expired", /expired on 2024-01-31/u],
    ["link-used-up", /used as often as it may be/u],
    ["link-mfa", /second factor/u],
    ["link-unknown", /not valid/u],
    ["old-unknown", /does not accept the link's passcode/u],
    ["old-expired", /expired/u],
    ["held", /held and not released/u],
    ["deleted", /was deleted/u],
    ["expired", /expired/u],
  ])("%s: one sentence and exit 4", async (name, what) => {
    const { code, stderr } = await run("ls", link(name));
    expect(stderr).toMatch(what);
    expect(code).toBe(4);
    expect(stderr).not.toContain(secretOf(name));
  });

  it("one that is still uploaded: exit 5", async () => {
    const { code, stderr } = await run("get", link("uploading"), "-o", dir);
    expect(stderr).toContain("still being uploaded");
    expect(stderr).not.toContain("--jobs");
    expect(code).toBe(5);
  });
});

it("links stand in a list beside UIDs, and the folder goes on without the list", async () => {
  const list = join(await temporaryDir(), "wanted.txt");
  const [uid] = [...tinyDataset().series()].map((series) => series.seriesInstanceUid);
  await writeFile(list, `# slides and images\n${link("four")}\n\n${uid}\n${link("odd")}\n`);
  const { code, said } = await run("get", list, "-o", dir);
  expect(code, said).toBe(0);
  const tops = new Set((await listFiles(dir)).map((path) => path.split("/")[0]));
  expect(tops).toContain("PKG - Phantom_tumor_ROIs_v1");
  expect(tops).toContain("PKG - Phantom oddities");
  expect((await listFiles(dir)).some((path) => path.endsWith(".dcm"))).toBe(true);
  const passcode = new URL(link("four")).searchParams.get("passcode") ?? "";
  const holders: string[] = [];
  for (const path of await listFiles(join(dir, ".gantry"))) {
    const text = await readFile(join(dir, ".gantry", path), "utf8");
    if (text.includes(passcode) || text.includes(secretOf("odd"))) holders.push(path.split("/")[0] ?? "");
  }
  expect(holders).toEqual(["private", "private"]);
  const again = await run("get", "-o", dir);
  expect(again).toMatchObject({ code: 0, said: expect.stringContaining("Nothing to fetch") });
  await writeFile(list, `${uid}\n${link("odd").slice(0, -9)}\n`);
  const cut = await run("get", list, "-o", dir);
  expect(cut).toMatchObject({ code: 2, said: expect.stringMatching(/wanted\.txt:2: .*cut or damaged/u) });
});

describe("the link is a secret", () => {
  it("which lies in .gantry/private only, for the owner alone", async () => {
    const { code, said } = await run("get", link("package"), "README.txt", "-o", dir, "--json");
    expect(code, said).toBe(0);
    const secret = secretOf("package");
    const passcode = String(JSON.parse(Buffer.from(secret, "base64").toString()).passcode);
    for (const word of [secret, passcode]) expect(said).not.toContain(word);
    const holders: string[] = [];
    for (const path of await listAll(dir)) {
      const facts = await stat(join(dir, path));
      if (!facts.isFile()) continue;
      const text = await readFile(join(dir, path), "utf8");
      if (!text.includes(secret) && !text.includes(passcode)) continue;
      holders.push(path);
      expect(facts.mode & 0o077).toBe(0);
    }
    expect(holders).toEqual([expect.stringMatching(/^\.gantry\/private\/[0-9a-f]{16}\.link$/u)]);
    const known = await run("get", `${new URL(link("package")).host}/701:Phantom_HER2_cohort/SVS`, "-o", dir);
    expect(known.code, known.said).toBe(0);
    const elsewhere = await run("ls", `${new URL(link("package")).host}/701:`);
    expect(elsewhere.code).toBe(4);
    expect(elsewhere.said).toContain("is not known here");
  });

  it.skipIf(process.platform !== "linux")(
    "and in no argument list but that of the process that it was pasted to",
    async () => {
      const secret = secretOf("package");
      const seen = new Set<string>();
      const program = stage.start(["get", link("package"), "-o", dir]);
      let over = false;
      void program.ended.then(() => {
        over = true;
      });
      while (!over) {
        for (const pid of readdirSync("/proc").filter((name) => /^\d+$/u.test(name))) {
          try {
            const line = readFileSync(`/proc/${pid}/cmdline`, "utf8");
            if (/ascp/u.test(line) && line.includes("-M")) seen.add("ascp");
            if (line.includes(secret))
              seen.add(/ascp/u.test(line.split("\0")[0] ?? "") ? "secret in ascp" : "pasted");
          } catch {
            // It has ended meanwhile.
          }
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect((await program.ended).code).toBe(0);
      expect([...seen].sort()).toEqual(["ascp", "pasted"]);
    },
  );

  it("a background run reads it from standard input", async () => {
    const { code, said } = await run("get", link("package"), "--detach", "-o", dir);
    expect(code, said).toBe(0);
    const secret = secretOf("package");
    const holders = readdirSync("/proc")
      .filter((name) => /^\d+$/u.test(name))
      .filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(secret);
        } catch {
          return false;
        }
      });
    expect(holders).toEqual([]);
    const whole = await freshDir();
    expect((await run("get", link("package"), "-o", whole)).code).toBe(0);
    await expect
      .poll(
        async () =>
          hashTree(dir).then(
            (tree) => tree,
            () => null,
          ),
        { timeout: 60_000, interval: 500 },
      )
      .toEqual(await hashTree(whole));
  }, 120_000);
});
