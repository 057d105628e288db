import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { system } from "./system.ts";

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "gantry-system-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe("system", () => {
  it("detaches a program into a session of its own, with its output in the log", async () => {
    const log = join(dir, "logs", "detached.log");
    const script = 'read line || echo "no input"; echo "$WORD"; ps -o sid= -p $$ >&2; exit 3';
    const child = await system.detach(["sh", "-c", script], {
      log,
      cwd: dir,
      env: { ...process.env, WORD: "hello" },
    });
    expect(await child.ended).toBe(3);
    const [input, word, session] = readFileSync(log, "utf8").split("\n");
    expect([input, word]).toEqual(["no input", "hello"]);
    if (session !== undefined && session.trim() !== "") expect(Number(session)).toBe(child.pid);
    expect(await system.readTail(log, 1)).toBe(session);
    child.forget();
  });

  it("tells when a program can't be started", async () => {
    await expect(
      system.detach(["/no/such/program"], { log: join(dir, "x.log"), cwd: dir, env: {} }),
    ).rejects.toThrow(/ENOENT/);
  });

  it("inverts one byte, counted from either end, and nothing else", async () => {
    const file = join(dir, "deep", "bytes");
    await system.writeText(file, "abc");
    await system.invertByte(file, -1);
    await system.invertByte(file, 0);
    expect([...(await system.readBytes(file))]).toEqual([0x61 ^ 0xff, 0x62, 0x63 ^ 0xff]);
  });

  it("lists data files and knows an empty folder", async () => {
    const folder = join(dir, "data");
    expect(await system.isEmpty(folder)).toBe(true);
    for (const name of ["b/2.dcm", "b/1.dcm", "a.txt", ".gantry/partial/3.dcm"]) {
      await system.writeText(join(folder, name), "");
    }
    expect(await system.listFiles(`${folder}/`, ".dcm")).toEqual(["b/1.dcm", "b/2.dcm"]);
    expect(await system.isEmpty(folder)).toBe(false);
    expect(await system.isEmpty(join(folder, "a.txt"))).toBe(false);
    expect(await system.isFile(join(folder, "a.txt"))).toBe(true);
    expect(await system.isFile(folder)).toBe(false);
    expect(await system.isFile(join(folder, "none"))).toBe(false);
    expect(await system.readTail(join(dir, "none"), 3)).toBe("");
  });
});
