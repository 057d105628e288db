import { chmod, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { RunError } from "../errors.ts";
import {
  ensureFolder,
  makeFolder,
  makeFolderSync,
  openAppender,
  syncFolder,
  toDiskError,
  writeFileDurably,
} from "./durable-file.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "durable-"));
});
afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

function fsError(code: string, extra: { errno?: number; syscall?: string } = {}): Error {
  return Object.assign(new Error(code), { code, syscall: "write", ...extra });
}

describe("makeFolderSync", () => {
  it("makes what is missing, leaves what is there, and fails for a file in the way", async () => {
    makeFolderSync(join(folder, "a", "b"));
    makeFolderSync(join(folder, "a", "b"));
    await writeFile(join(folder, "a", "b", "file"), "");
    expect(() => makeFolderSync(join(folder, "a", "b", "file"))).toThrow(/EEXIST/u);
    expect(() => makeFolderSync(join(folder, "a", "b", "file", "c"))).toThrow(/ENOTDIR/u);
  });

  it.runIf(process.platform === "linux")("gives up where no folder can be made", () => {
    expect(() => makeFolderSync("/proc/gantry/a")).toThrow(/ENOENT/u);
  });
});

describe("makeFolder", () => {
  it("makes parents, tells the first that was made, and says what is in the way", async () => {
    expect(await makeFolder(join(folder, "a", "b"))).toBe(join(folder, "a"));
    expect(await makeFolder(join(folder, "a", "b"))).toBeUndefined();
    await writeFile(join(folder, "file"), "");
    await expect(makeFolder(join(folder, "file", "b"))).rejects.toMatchObject({ code: "disk-error" });
  });

  it("many at once make the same one", async () => {
    const path = join(folder, "a", "b", "c");
    await Promise.all(Array.from({ length: 8 }, () => makeFolder(path)));
    expect((await stat(path)).isDirectory()).toBe(true);
  });

  it.runIf(process.platform === "linux")("gives up where no folder can be made", async () => {
    await expect(makeFolder("/proc/gantry/a")).rejects.toMatchObject({ code: "disk-error" });
  });
});

describe("writeFileDurably", () => {
  it("writes text, bytes and streams, replaces, and leaves nothing else", async () => {
    const path = join(folder, "a.json");
    await writeFileDurably(path, "one");
    expect(await readFile(path, "utf8")).toBe("one");
    await writeFileDurably(path, new Uint8Array([104, 105]));
    expect(await readFile(path, "utf8")).toBe("hi");
    const shared = Buffer.alloc(1);
    await writeFileDurably(
      path,
      (async function* () {
        yield "ä";
        for (const byte of [65, 66, 67]) {
          shared[0] = byte;
          yield shared;
        }
        yield "x".repeat(300_000);
      })(),
    );
    expect(await readFile(path, "utf8")).toBe(`äABC${"x".repeat(300_000)}`);
    expect(await readdir(folder)).toEqual(["a.json"]);
  });

  it("keeps the old file and removes the temporary one when the content fails", async () => {
    const path = join(folder, "a");
    await writeFileDurably(path, "old");
    const fault = new Error("the producer broke");
    await expect(
      writeFileDurably(
        path,
        (async function* () {
          yield "x".repeat(400_000);
          throw fault;
        })(),
      ),
    ).rejects.toBe(fault);
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(folder)).toEqual(["a"]);
  });

  it("puts the temporary file where a killed process may leave it", async () => {
    const [target, elsewhere] = [join(folder, "data"), join(folder, "partial")];
    for (const each of [target, elsewhere]) await ensureFolder(each);
    const amid: string[][] = [];
    const content = (async function* () {
      yield "x".repeat(400_000);
      amid.push(await readdir(target), await readdir(elsewhere));
      yield "y";
    })();
    await writeFileDurably(join(target, "a"), content, { temporaryIn: elsewhere });
    expect(amid).toEqual([[], [expect.stringMatching(/^\.a\./)]]);
    expect([await readdir(target), await readdir(elsewhere)]).toEqual([["a"], []]);
  });

  it("takes a mode and names of 255 bytes", async () => {
    const path = join(folder, "n".repeat(255));
    await writeFileDurably(path, "x", { mode: 0o600 });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
  });

  it("says which file when the folder is missing or the target is a folder", async () => {
    const path = join(folder, "missing", "a");
    await expect(writeFileDurably(path, "x")).rejects.toMatchObject({ code: "disk-error", at: { path } });
    await expect(writeFileDurably(folder, "x")).rejects.toMatchObject({ code: "disk-error" });
    expect(await readdir(folder)).toEqual([]);
  });

  it.skipIf(process.getuid?.() === 0)("maps a read-only folder to disk-permission", async () => {
    await chmod(folder, 0o500);
    await expect(writeFileDurably(join(folder, "a"), "x")).rejects.toMatchObject({ code: "disk-permission" });
    await chmod(folder, 0o700);
  });
});

describe("folders", () => {
  it("makes parents, again without harm, and refuses a file in the way", async () => {
    const path = join(folder, "a", "b", "c");
    await ensureFolder(path);
    await ensureFolder(path);
    expect((await stat(path)).isDirectory()).toBe(true);
    await writeFile(join(folder, "file"), "");
    await expect(ensureFolder(join(folder, "file", "x"))).rejects.toMatchObject({ code: "disk-error" });
    await expect(ensureFolder(join(folder, "file"))).rejects.toMatchObject({ code: "disk-error" });
    await expect(syncFolder(join(folder, "absent"))).rejects.toMatchObject({ code: "disk-error" });
  });
});

describe("openAppender", () => {
  it("keeps the order of concurrent appends and is durable before it resolves", async () => {
    const path = join(folder, "receipts.jsonl");
    const appender = await openAppender(path);
    const lines = Array.from({ length: 500 }, (_, index) => `${index}\n`);
    await appender.append(lines[0]!);
    expect(await readFile(path, "utf8")).toBe("0\n");
    await Promise.all(lines.slice(1).map((line) => appender.append(line)));
    expect(await readFile(path, "utf8")).toBe(lines.join(""));
    await appender.close();
  });

  it("waits for appends on close, refuses later ones, closes twice", async () => {
    const path = join(folder, "a");
    const appender = await openAppender(path);
    const pending = appender.append("x");
    await appender.close();
    await appender.close();
    await pending;
    expect(await readFile(path, "utf8")).toBe("x");
    await expect(appender.append("y")).rejects.toThrow("closed");
  });

  it("fails the whole group and every later append after a failed sync", async () => {
    const path = join(folder, "a");
    const probe = await open(join(folder, "probe"), "w");
    const prototype = Object.getPrototypeOf(probe) as typeof probe;
    await probe.close();
    const appender = await openAppender(path);
    await appender.append("safe\n");
    const datasync = vi.spyOn(prototype, "datasync").mockRejectedValueOnce(fsError("ENOSPC"));
    try {
      const group = await Promise.allSettled([appender.append("a\n"), appender.append("b\n")]);
      for (const each of group) {
        expect(each).toMatchObject({ status: "rejected", reason: { code: "disk-full", at: { path } } });
      }
      await expect(appender.append("c\n")).rejects.toMatchObject({ code: "disk-full" });
      expect(datasync).toHaveBeenCalledTimes(1);
    } finally {
      datasync.mockRestore();
      await appender.close();
    }
  });

  it("syncs once for appends made together", async () => {
    const probe = await open(join(folder, "probe"), "w");
    const datasync = vi.spyOn(Object.getPrototypeOf(probe) as typeof probe, "datasync");
    await probe.close();
    const appender = await openAppender(join(folder, "a"));
    try {
      await Promise.all(Array.from({ length: 50 }, () => appender.append("x\n")));
      expect(datasync).toHaveBeenCalledTimes(1);
    } finally {
      datasync.mockRestore();
      await appender.close();
    }
  });

  it("refuses a name that exists", async () => {
    await writeFile(join(folder, "a"), "");
    await expect(openAppender(join(folder, "a"))).rejects.toMatchObject({ code: "disk-error" });
  });
});

describe("toDiskError", () => {
  it.each([
    ["ENOSPC", "disk-full"],
    ["EACCES", "disk-permission"],
    ["EPERM", "disk-permission"],
    ["EROFS", "disk-permission"],
    ["EIO", "disk-error"],
    ["EFBIG", "disk-error"],
    ["ENAMETOOLONG", "disk-error"],
    ["EMFILE", "disk-error"],
    ["ENOENT", "disk-error"],
  ])("%s is %s", async (code, expected) => {
    const cause = fsError(code);
    const path = join(folder, "not", "there");
    const error = await toDiskError(cause, { operation: "write", path });
    expect(error).toBeInstanceOf(RunError);
    expect(error).toMatchObject({ code: expected, cause, at: { path, operation: "write" } });
    expect(error?.message).toContain(path);
  });

  it("knows a used-up quota by its number", async () => {
    const cause = fsError("Unknown system error -122", { errno: -constants.errno.EDQUOT });
    expect(await toDiskError(cause, { path: folder })).toMatchObject({ code: "disk-quota" });
  });

  it.each([
    [fsError("ECONNRESET", { syscall: "read" })],
    [fsError("EACCES", { syscall: "connect" })],
    [fsError("ENOENT", { syscall: "spawn ascp" })],
    [new Error("plain")],
    [new RunError("disk-full", "known already")],
    ["text"],
  ])("leaves others alone: %s", async (error) => {
    expect(await toDiskError(error, { path: folder })).toBeUndefined();
  });
});
