/**
 * aspera-cli (IBM/aspera-cli, 4.25.4), the reference client of Faspex packages, against the stand-ins: what the well-known
 * TCIA notebook does with it, a plain server, and a package sent through a public upload link.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { listFiles, type Stage, startStage, temporaryDir, testData } from "../support/gantry.ts";
import { lack, program, runClient } from "./clients.ts";

const ascli = program("ascli");

describe.skipIf(ascli === null)(`aspera-cli${lack(ascli, "ascli")}`, () => {
  let stage: Stage;
  let links: Readonly<Record<string, string>>;
  let home: string;

  const run = (args: readonly string[]) =>
    runClient(ascli ?? "", args, {
      cwd: home,
      env: { HOME: home, SSL_CERT_FILE: stage.sandbox.tls?.caFile ?? "" },
      timeoutMs: 90_000,
    });
  const packages = (name: string, what: string, ...more: readonly string[]) =>
    run(["faspex5", "packages", what, `--url=${links[name]}`, ...more]);
  const read = (path: string) => readFile(join(home, path), "utf8");

  beforeAll(async () => {
    stage = await startStage({ tls: true });
    links = await stage.sandbox.links();
    home = await temporaryDir();
    const sdk = await fetch(links.sdk?.replace(stage.sandbox.tls?.url ?? "", stage.sandbox.url) ?? "");
    await writeFile(join(home, "sdk.tar.gz"), Buffer.from(await sdk.arrayBuffer()));
    const installed = await run(["conf", "ascp", "install", "--sdk-url=file:///sdk.tar.gz"]);
    expect(installed.code, installed.said).toBe(0);
    expect(installed.said).toContain("Installed");
  });

  it("lists a package and a folder, and shows what the package is", async () => {
    const root = await packages("package", "browse", "--format=csv");
    expect(root.code, root.said).toBe(0);
    expect(root.stdout.split("\n").map((line) => line.split(",")[0])).toContain(
      "/Phantom_tumor_ROIs_v1.sums",
    );
    const folder = await packages("package", "browse", "Phantom_HER2_cohort/SVS", "--format=json");
    expect(JSON.parse(folder.stdout)).toHaveLength(3);
    expect(JSON.parse(folder.stdout)[0]).toMatchObject({ type: "symbolic_link", target: { type: "file" } });
    const shown = await packages("package", "show", "--format=json");
    expect(JSON.parse(shown.stdout)).toMatchObject({ id: "701", title: "Phantom_tumor_ROIs_v1" });
  });

  it("receives a whole package, and two single files without their folders", async () => {
    const whole = await packages("package", "receive", "--to-folder=whole", "--format=json");
    expect(whole.code, whole.said).toBe(0);
    expect(whole.stdout).toContain('[{"package":"701","status":"success"}]');
    const top = "whole/PKG - Phantom_tumor_ROIs_v1";
    const sums = await read(`${top}/Phantom_tumor_ROIs_v1.sums`);
    await writeFile(join(home, top, "check"), sums);
    const checked = await runClient("md5sum", ["-c", "--quiet", "check"], { cwd: join(home, top) });
    expect(checked, checked.said).toMatchObject({ code: 0 });
    const two = await packages(
      "package",
      "receive",
      "Phantom_HER2_cohort/Annotations/Phantom_Case_01.xml",
      "Phantom_HER2_cohort/SVS/Phantom_Case_01.svs",
      "--to-folder=two",
    );
    expect(two.code, two.said).toBe(0);
    expect(await listFiles(join(home, "two"))).toEqual(["Phantom_Case_01.svs", "Phantom_Case_01.xml"]);
  });

  it("receives 1,000 files", async () => {
    const got = await packages("thousand", "receive", "--to-folder=many");
    expect(got.code, got.said).toBe(0);
    expect(await listFiles(join(home, "many"))).toHaveLength(1001);
  });

  it("says that a link is dead", async () => {
    const dead = await packages("link-expired", "receive");
    expect(dead.code).toBe(1);
    expect(dead.said).toContain("expired");
  });

  it("sees a failure of ascp", async () => {
    stage.control.setFaults([{ kind: "ascp-error", code: 4, description: "No such file or directory" }]);
    const failed = await packages("package", "receive", "README.txt");
    stage.control.setFaults([]);
    expect(failed.code).toBe(1);
    expect(failed.said).toContain("No such file or directory");
  });

  it("downloads from a plain server, encrypted files too", async () => {
    const { port } = new URL(links.site ?? "");
    const server = (...more: readonly string[]) =>
      run([
        ...["server", "download", `--url=ssh://127.0.0.1:${port}`, "--username=demo", "--password=demo"],
        ...["--to-folder=site", ...more],
      ]);
    const plain = await server("/Phantom_tumor_ROIs_v1/README.txt");
    expect(plain.code, plain.said).toBe(0);
    const secret = { content_protection: "decrypt", content_protection_password: "demo at rest" };
    const opened = await server(
      "/encrypted/Slides_Überblick.tsv.aspera-env",
      `--ts=@json:${JSON.stringify({ ...secret, resume_policy: "attrs" })}`,
    );
    expect(opened.code, opened.said).toBe(0);
    expect(await listFiles(join(home, "site"))).toEqual(["README.txt", "Slides_Überblick.tsv"]);
    expect(await read("site/Slides_Überblick.tsv")).toContain("cohort");
  });

  it("sends a package through a public upload link", async () => {
    await mkdir(join(home, "mine"));
    await writeFile(join(home, "mine/words.txt"), "my own words\n");
    const sent = await packages("upload", "send", '@json:{"title":"From aspera-cli"}', "mine");
    expect(sent.code, sent.said).toBe(0);
    const [name] = Object.keys(await stage.sandbox.links()).filter((each) => each.startsWith("uploaded-"));
    links = await stage.sandbox.links();
    const back = await packages(name ?? "", "receive", "--to-folder=back");
    expect(back.code, back.said).toBe(0);
    expect(await read("back/PKG - From aspera-cli/mine/words.txt")).toBe("my own words\n");
  });

  it.skipIf(testData === null)("takes the seven steps of the notebook over real files", async () => {
    const own = await startStage({ tls: true, dataDir: join(testData ?? "", "package") });
    const { package: link = "" } = await own.sandbox.links();
    const folder = await temporaryDir();
    const step = (...args: readonly string[]) =>
      runClient(ascli ?? "", args, {
        cwd: folder,
        env: { HOME: folder, SSL_CERT_FILE: own.sandbox.tls?.caFile ?? "" },
        timeoutMs: 90_000,
      });
    await writeFile(join(folder, "sdk.tar.gz"), await readFile(join(home, "sdk.tar.gz")));
    const of = (what: string, ...more: readonly string[]) =>
      step("faspex5", "packages", what, `--url=${link}`, ...more);
    const said = [
      await step("conf", "ascp", "install", "--sdk-url=file:///sdk.tar.gz"),
      await of("receive"),
      await of("browse"),
      await of("browse", "Demo_HER2_cohort/Annotations"),
      await of("receive", "Demo_HER2_cohort/Annotations"),
      await of("receive", "Demo_HER2_tumor_ROIs_v1.sums"),
      await of(
        "receive",
        "Demo_HER2_cohort/Annotations/Demo_Case_01.xml",
        "Demo_HER2_cohort/SVS/Demo_Case_01.svs",
      ),
    ];
    expect(
      said.map(({ code }) => code),
      said.map((one) => one.said).join("\n"),
    ).toEqual([0, 0, 0, 0, 0, 0, 0]);
    for (const path of ["Annotations/Demo_Case_04.xml", "Demo_Case_01.svs", "Demo_HER2_tumor_ROIs_v1.sums"])
      expect(existsSync(join(folder, path)), path).toBe(true);
  });
});
