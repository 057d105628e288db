import { describe, expect, it } from "vitest";
import { RunError } from "../../errors.ts";
import { createRedactor } from "../../lib/redact.ts";
import type { Library } from "../library.ts";
import { main } from "../main.ts";
import type { System } from "../system.ts";
import { fakeIo } from "../testing.ts";

/** A library whose verify answers with these exits in turn. */
function demo(exits: number[], dirs: readonly string[] = []) {
  const done: string[] = [];
  const environments: Record<string, string | undefined>[] = [];
  const zero = { items: 0, files: 0, bytes: 0 };
  async function* none() {}
  const runOf = (exit: number) =>
    Object.assign(none(), {
      result: Promise.resolve({
        ...{
          run: "r",
          dir: "d",
          exit,
          stored: zero,
          adopted: { ...zero, fetchedFiles: 0, fetchedBytes: 0 },
          here: zero,
          failed: 0,
          withdrawn: 0,
          disputed: 0,
        },
        ...{ receivedBytes: 0, failures: [], citations: [], error: null },
        ...{
          items: 1,
          files: 1,
          bytes: 1,
          ok: 1,
          changed: exit === 0 ? 0 : 1,
          missing: 0,
          moved: 0,
          extra: 0,
          tookMs: 1,
        },
      }),
    });
  const listing = async (name: string) => {
    done.push(name);
    const columns = ["address", "Modality", "SeriesDescription", "ImageCount", "FileSize"];
    return { columns, rows: none() };
  };
  const library = {
    RunError,
    EVENTS_VERSION: 1,
    createRedactor,
    openLogbook: async () => ({
      log: () => undefined,
      event: () => undefined,
      path: null,
      close: async () => undefined,
    }),
    open: async ({ environment }: { environment: Record<string, string | undefined> }) => {
      environments.push(environment);
      return {
        values: () => listing("values"),
        find: () => listing("find"),
        get: (words: readonly string[]) => {
          done.push(`get ${words.length}`);
          return runOf(0);
        },
        close: async () => undefined,
      };
    },
    verify: () => {
      done.push("verify");
      return runOf(exits.shift() ?? 1);
    },
  } as unknown as Partial<Library>;
  const system: Partial<System> = {
    isEmpty: async (dir) => !dirs.includes(dir),
    makeTemporaryFolder: async () => "/tmp/demo",
    writeText: async () => undefined,
    listFiles: async () => ["s/1.dcm", "s/2.dcm", "s/3.dcm"],
    invertByte: async (path) => void done.push(`invert ${path}`),
    readBytes: async () => Buffer.from("no image"),
    remove: async (path) => void done.push(`remove ${path}`),
  };
  return {
    io: fakeIo({ library, system, env: { GANTRY_TCIA_PASSWORD: "real", HOME: "/h" } }),
    done,
    environments,
  };
}

describe("demo", () => {
  it("finds, fetches, proves, breaks, mends and tidies up", async () => {
    const { io, done, environments } = demo([0, 6, 0]);
    expect(await main(["demo"], io)).toBe(0);
    expect(done).toEqual([
      ...[
        "values",
        "find",
        "find",
        "get 1",
        "verify",
        "invert /tmp/demo/phantom/s/2.dcm",
        "verify",
        "get 0",
        "verify",
      ],
      "remove /tmp/demo",
    ]);
    const text = io.stdout.text;
    expect(text).toContain("$ gantry values tcia: modality\n");
    expect(text).toContain("$ gantry get tcia:Phantom-CT/PHANTOM-0001 -o /tmp/demo/phantom\n");
    expect(text).toContain("(exit 6)\n");
    expect(text).not.toContain("\u001b");
    // The account of the real archive is not shown to the stand-in.
    expect(environments[0]).toMatchObject({ HOME: "/h", GANTRY_CONFIG: "/tmp/demo/config.toml" });
    expect(environments[0]).not.toHaveProperty("GANTRY_TCIA_PASSWORD");
  });

  it("keeps the images in a given folder, which must be empty", async () => {
    const kept = demo([0, 6, 0]);
    expect(await main(["demo", "mine"], kept.io)).toBe(0);
    expect(kept.done).toContain("invert mine/s/2.dcm");
    expect(kept.io.stdout.text).toContain("The images are in mine.");
    const full = demo([], ["mine"]);
    expect(await main(["demo", "mine"], full.io)).toBe(2);
    expect(full.io.stderr.text).toContain('"mine" is not an empty folder');
  });

  it("fails when damage is not noticed, and tidies up all the same", async () => {
    const { io, done } = demo([0, 0]);
    expect(await main(["demo"], io)).toBe(1);
    expect(io.stdout.text).toContain("The demo ends here");
    expect(done.at(-1)).toBe("remove /tmp/demo");
  });
});
