import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { RunError } from "../../errors.ts";
import { main } from "../main.ts";
import { system } from "../system.ts";
import { fakeIo } from "../testing.ts";

const env = { PATH: process.env.PATH ?? "" };
const library = { RunError };

describe("sandbox -- COMMAND", () => {
  it("runs it with a configuration of its own and returns its exit", async () => {
    const seen: {
      command: readonly string[];
      env: Readonly<Record<string, string | undefined>>;
      config: string;
    }[] = [];
    const written = new Map<string, string>();
    const removed: string[] = [];
    const io = fakeIo({
      env: { ...env, GANTRY_TCIA_USER: "me", MINE: "kept" },
      library,
      system: {
        makeTemporaryFolder: async () => "/tmp/x",
        writeText: async (path, text) => void written.set(path, text),
        remove: async (path) => void removed.push(path),
        run: (command, childEnv) => {
          seen.push({ command, env: childEnv, config: written.get(childEnv.GANTRY_CONFIG ?? "") ?? "" });
          return { status: Promise.resolve(9), kill: () => undefined };
        },
      },
    });
    expect(await main(["sandbox", "--", "prog", "--flag"], io)).toBe(9);
    const [call] = seen;
    expect(call?.command).toEqual(["prog", "--flag"]);
    const url = call?.env.GANTRY_SANDBOX_URL ?? "";
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect(call?.config).toContain('[archives.tcia]\nkind = "nbia"\nurl = ');
    expect(call?.config).toContain(url);
    expect(call?.env).toMatchObject({ MINE: "kept", NO_PROXY: "127.0.0.1,localhost" });
    // The accounts of the real archives stay outside.
    expect(call?.env.GANTRY_TCIA_USER).toBeUndefined();
    expect(call?.env.PATH?.startsWith("/tmp/x/bin:")).toBe(true);
    expect(written.get("/tmp/x/bin/gantry")).toBe('#!/bin/sh\nexec node gantry.js "$@"\n');
    expect(removed).toEqual(["/tmp/x"]);
    expect(io.stdout.text + io.stderr.text).toBe("");
  });

  it("points at HTTPS and at its authority with --tls", async () => {
    const io = fakeIo({ env: { ...env, NODE_EXTRA_CA_CERTS: "/mine.pem" }, library, system });
    const script = [
      'case "$GANTRY_SANDBOX_URL" in https://127.0.0.1:*) ;; *) exit 10;; esac',
      'grep -q "^url = \\"$GANTRY_SANDBOX_URL/nbia-api\\"" "$GANTRY_CONFIG" || exit 11',
      'grep -q "BEGIN CERTIFICATE" "$SSL_CERT_FILE" || exit 12',
      'test "$NODE_EXTRA_CA_CERTS" = "$SSL_CERT_FILE" || exit 13',
      'test "$CURL_CA_BUNDLE" = "$SSL_CERT_FILE" || exit 15',
      'test "$REQUESTS_CA_BUNDLE" = "$SSL_CERT_FILE" || exit 14',
    ].join("\n");
    expect(await main(["sandbox", "--tls", "--", "sh", "-c", script], io)).toBe(0);
  });

  it("really runs programs, as a shell counts", async () => {
    const run = (...command: string[]) =>
      main(["sandbox", "--", ...command], fakeIo({ env, library, system }));
    const script =
      'test -f "$GANTRY_CONFIG" && command -v gantry | grep -q "^$(dirname "$GANTRY_CONFIG")/bin/" && exit 5';
    expect(await run("sh", "-c", script)).toBe(5);
    expect(await run("sh", "-c", "kill -TERM $$")).toBe(143);
    expect(await run("/no/such/program")).toBe(127);
  });
});

describe("sandbox", () => {
  it("shows what it serves and how to use it until Ctrl-C", async () => {
    const io = fakeIo({ env, library, system });
    const end = main(["sandbox", "--seed", "3"], io);
    while (!io.stdout.text.includes("Ctrl-C stops it."))
      await new Promise((resolve) => setImmediate(resolve));
    const text = io.stdout.text;
    expect(text).toMatch(/^The sandbox serves at http:\/\/127\.0\.0\.1:\d+\n/);
    expect(text).toMatch(/Phantom-CT +\d+ series/);
    expect(text).toContain("export GANTRY_CONFIG=");
    expect(text).toContain("gantry get tcia:Phantom-CT -o try");
    expect(text).toContain("/_sandbox/faults");
    io.signal("SIGINT");
    expect(await end).toBe(0);
  });

  it("says with --tls how to trust it", async () => {
    const io = fakeIo({ env, library, system });
    const end = main(["sandbox", "--tls"], io);
    while (!io.stdout.text.includes("Ctrl-C stops it."))
      await new Promise((resolve) => setImmediate(resolve));
    expect(io.stdout.text).toMatch(/^The sandbox serves at http:\S+ and https:\/\/127\.0\.0\.1:\d+\n/);
    expect(io.stdout.text).toMatch(/tcia: +nbia +https:/);
    const file = /^ {2}SSL_CERT_FILE=(\S+)$/m.exec(io.stdout.text)?.[1] ?? "";
    expect(existsSync(file)).toBe(true);
    io.signal("SIGINT");
    expect(await end).toBe(0);
    expect(existsSync(file)).toBe(false);
  });

  it("lists what it can't serve of a folder: the first twenty, a count, and where the rest is", async () => {
    const folder = await mkdtemp(join(tmpdir(), "gantry-sandbox-test-"));
    const names = Array.from({ length: 23 }, (_, index) => `note-${String(index).padStart(2, "0")}.txt`);
    for (const name of names) await writeFile(join(folder, name), "no image");
    try {
      const io = fakeIo({ env, library, system });
      const end = main(["sandbox", "--data", folder], io);
      while (!io.stdout.text.includes("Ctrl-C stops it."))
        await new Promise((resolve) => setImmediate(resolve));
      const text = io.stdout.text;
      expect(text).toContain("Not served: 23 files\n");
      expect(text.match(/^ {2}note-\d\d\.txt: This is not a DICOM file but text\.$/gm)).toHaveLength(20);
      const url = /^ {2}and 3 more, all in (\S+\/_sandbox\/)$/m.exec(text)?.[1] ?? "";
      const door = (await (await fetch(url)).json()) as { problems: { path: string }[] };
      expect(door.problems.map(({ path }) => path)).toEqual(names);
      io.signal("SIGINT");
      expect(await end).toBe(0);

      const quiet = fakeIo({ env, library, system });
      expect(await main(["sandbox", "--data", folder, "--", "true"], quiet)).toBe(0);
      expect(quiet.stdout.text).toBe("");
      expect(quiet.stderr.text).toMatch(/^gantry: the sandbox does not serve 23 files of \S+;.*\n$/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("says that a folder is not there", async () => {
    const io = fakeIo({ env, library, system });
    expect(await main(["sandbox", "--data", "/no/such/folder"], io)).toBe(2);
    expect(io.stderr.text).toContain("/no/such/folder");
  });
});
