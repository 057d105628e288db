import { readFileSync } from "node:fs";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { temporaryDir } from "../../../test/support/gantry.ts";
import { type ScriptedAscp, type Step, scriptedAscp } from "../../../test/support/scripted-ascp.ts";
import { RunError } from "../../errors.ts";
import { type Context, systemClock } from "../../lib/context.ts";
import { createRedactor } from "../../lib/redact.ts";
import { type AscpEvent, type AscpOptions, createAscp } from "./ascp.ts";
import type { TransferSpec } from "./transfer-spec.ts";

const SPEC: TransferSpec = {
  direction: "receive",
  remote_host: "host.example",
  remote_user: "user",
  paths: [{ source: "/p/a.txt" }],
  remote_password: "hunter2hunter2",
  content_protection_password: "rest2rest2",
  resume_policy: "attrs",
};
const DONE: Step = { frame: { Type: "DONE", FileBytes: 5, TransfersPassed: 1, TransfersSkipped: 0 } };

/** A process that has ended and that nobody has asked about yet does nothing any more. */
const isAlive = (pid: number): boolean => {
  try {
    return !/\) Z /u.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
};

describe("ascp", () => {
  let base: string;
  let folder: string;
  let ascp: ScriptedAscp;
  let received: number;

  beforeEach(async () => {
    base = await temporaryDir();
    folder = join(base, "got");
    await mkdir(folder);
    ascp = await scriptedAscp(join(base, "program"));
    received = 0;
  });

  const transfer = async (
    options: Partial<AscpOptions> & { spec?: Partial<TransferSpec>; signal?: AbortSignal } = {},
    onEvent: (event: AscpEvent) => void = () => undefined,
  ): Promise<AscpEvent[]> => {
    const { spec, signal, ...more } = options;
    const context: Context = {
      signal: signal ?? new AbortController().signal,
      clock: systemClock,
      random: Math.random,
      log: () => undefined,
    };
    const program = createAscp({
      environment: {
        PATH: process.env.PATH,
        HOME: base,
        GANTRY_X_PASSWORD: "mine",
        ASPERA_SCP_PASS: "exported",
      },
      redactor: createRedactor(),
      stallTimeoutMs: 60_000,
      program: ascp.program,
      onReceived: (bytes) => {
        received += bytes;
      },
      ...more,
    });
    const events: AscpEvent[] = [];
    for await (const event of program.transfer({ spec: { ...SPEC, ...spec }, folder }, context)) {
      events.push(event);
      onEvent(event);
    }
    return events;
  };

  it("tells files, totals and progress of a session, and leaves no list behind", async () => {
    await ascp.script([
      { frame: { Type: "INIT", SessionId: "s" } },
      { frame: { Type: "SESSION", User: "user", Token: "ATsecretTA", Rate: 45000 } },
      { frame: { Type: "NOTIFICATION", PreTransferBytes: 9, PreTransferFiles: 2 } },
      {
        raw: "FASPMGR 2\nType: STATS\nFile: a.txt\nTransferBytes: 3\nStartByte: 1\nWritten: 3\n\n",
        pieces: 1,
      },
      { write: "a.txt", text: "hello" },
      {
        frame: {
          Type: "STOP",
          File: join(folder, "a.txt"),
          Size: 5,
          FileChecksum: "ab",
          FileChecksumType: "MD5",
        },
      },
      { frame: { Type: "SKIP", File: "b.txt", Size: 4 } },
      { frame: { Type: "FILEERROR", File: "c.txt", Code: 5, Description: "not permitted" } },
      { frame: { Type: "DONE", FileBytes: 9, TransferBytes: 5, TransfersPassed: 1, TransfersSkipped: 1 } },
    ]);
    const events = await transfer();
    expect(events).toMatchObject([
      { type: "session", facts: { User: "user", Rate: "45000" } },
      { type: "totals", bytes: 9, files: 2 },
      { type: "progress", bytes: 4 },
      { type: "file", path: join(folder, "a.txt"), bytes: 5, skipped: false, checksum: "md5:ab" },
      { type: "file", path: "b.txt", bytes: 4, skipped: true, checksum: null },
      { type: "file-failed", path: "c.txt", error: { code: "access-denied" } },
      { type: "progress", bytes: 9 },
      { type: "done", files: 2, bytes: 9 },
    ]);
    expect(JSON.stringify(events)).not.toContain("ATsecretTA");
    expect(received).toBe(5);
    expect(await readdir(folder)).toEqual(["a.txt"]);
  });

  it("is called with every secret in its environment alone, the user's own included, and nothing to read", async () => {
    await ascp.script([DONE]);
    await transfer({ extra: ["-Z", "1400"], settings: { rate_policy: "low" } });
    await transfer({ spec: { remote_password: undefined } as never, key: undefined as never });
    await transfer({
      spec: { remote_password: undefined, token: "ATtokenTA", ssh_private_key_path: "/k" } as never,
    });
    const [first, second, third] = await ascp.calls();
    expect(first?.argv.join(" ")).toMatch(
      /^-M \d+ -q --mode=recv --host=host\.example --user=user -k 1 --policy=low --dest64 -Z 1400 --file-list=\S+ \S+$/u,
    );
    expect(first).toMatchObject({ list: "/p/a.txt\n", destination: folder, stdin: "" });
    expect(first?.env).toMatchObject({
      ASPERA_SCP_PASS: "hunter2hunter2",
      ASPERA_SCP_FILEPASS: "rest2rest2",
    });
    expect(Object.keys(first?.env ?? {}).filter((name) => name.startsWith("GANTRY"))).toEqual([]);
    expect(second?.env.ASPERA_SCP_PASS).toBe("exported");
    // A password for one site is not for the server of a package.
    expect(third?.env).toMatchObject({ ASPERA_SCP_TOKEN: "ATtokenTA" });
    expect(third?.env.ASPERA_SCP_PASS).toBeUndefined();
  });

  it.each<[string, readonly Step[], string, RegExp]>([
    ["done and exit 1", [DONE, { exit: 1 }], "archive-cut", /all is done and then ended with exit 1/u],
    ["no last report", [{ exit: 0 }], "archive-cut", /without a report/u],
    [
      "an error",
      [{ frame: { Type: "ERROR", Code: 43, Description: "Source path stat failed" } }, { exit: 1 }],
      "access-item",
      /ascp error 43/u,
    ],
    [
      "an error after done",
      [DONE, { frame: { Type: "ERROR", Code: 27 } }, { exit: 1 }],
      "archive-error",
      /27/u,
    ],
    [
      "words alone",
      [{ say: "ascp: failed to authenticate, exiting.\n", to: "stderr" }, { exit: 1 }],
      "access-login",
      /failed to authenticate/u,
    ],
    [
      "a secret in its words",
      [{ say: "bad hunter2hunter2\n", to: "stderr" }, { exit: 1 }],
      "archive-error",
      /bad \*\*\*/u,
    ],
    [
      "a prompt",
      [{ say: "Password: ", to: "stdout" }, { hang: true }],
      "access-login",
      /asks for a password/u,
    ],
  ])("fails with a sentence after %s", async (_, steps, code, sentence) => {
    await ascp.script(steps);
    await expect(transfer()).rejects.toMatchObject({ code, message: expect.stringMatching(sentence) });
  });

  it("counts the last of several reports", async () => {
    await ascp.script([{ frame: { Type: "ERROR", Code: 15 } }, DONE]);
    expect((await transfer()).at(-1)).toEqual({ type: "done", files: 1, bytes: 5 });
  });

  it("ends a session that gets no further, also one that ignores what is asked of it", async () => {
    const stats: Step = { frame: { Type: "STATS", File: "a", TransferBytes: 3, Written: 3 } };
    await ascp.script([{ ignoreSignals: true }, stats, stats, stats, { hang: true }]);
    await expect(transfer({ stallTimeoutMs: 300 })).rejects.toMatchObject({ code: "archive-stalled" });
    const [call] = await ascp.calls();
    expect(isAlive(call?.pid ?? 0)).toBe(false);
  });

  it("ends when it is aborted, and when its reader leaves", async () => {
    await ascp.script([{ frame: { Type: "SESSION", User: "u" } }, { hang: true }]);
    const controller = new AbortController();
    const aborted = transfer({ signal: controller.signal }, () =>
      controller.abort(new RunError("interrupted", "interrupted")),
    );
    await expect(aborted).rejects.toMatchObject({ code: "interrupted" });
    await expect(
      transfer({}, () => {
        throw new Error("the reader left");
      }),
    ).rejects.toThrow("the reader left");
    for (const { pid } of await ascp.calls()) expect(isAlive(pid)).toBe(false);
  });

  it("shares the bandwidth among what runs, also when one more begins", async () => {
    await ascp.script([{ frame: { Type: "SESSION", User: "u" } }, { await: "RATE" }, DONE]);
    await transfer({ bandwidthBytesPerSecond: 1_000_000, spec: { multi_session: 2 } });
    const calls = await ascp.calls();
    expect(calls).toHaveLength(2);
    for (const [index, { argv }] of calls.entries()) {
      expect(argv[argv.indexOf("-l") + 1]).toBe("4000");
      expect(calls.some((call) => call.argv[call.argv.indexOf("-C") + 1] === `${index + 1}:2`)).toBe(true);
    }
  });

  it("tells files of several sessions when all have ended, and fails when one does", async () => {
    const stop: Step = { frame: { Type: "STOP", File: "a", Size: 2 } };
    await ascp.script([stop, DONE]);
    const events = await transfer({ spec: { multi_session: 2 } });
    expect(events.map(({ type }) => type).filter((type) => type !== "progress")).toEqual(["file", "done"]);
    const other = await scriptedAscp(join(base, "other"));
    await other.script([stop, DONE], [{ frame: { Type: "ERROR", Code: 16 } }, { exit: 1 }]);
    await expect(transfer({ program: other.program, spec: { multi_session: 2 } })).rejects.toMatchObject({
      code: "archive-cut",
    });
  });

  it("says which program or key is missing before anything starts", async () => {
    await expect(transfer({ program: join(base, "none") })).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("--ascp names"),
    });
    await expect(transfer({ key: join(base, "none") })).rejects.toMatchObject({ code: "usage" });
    await writeFile(join(base, "key"), "k", { mode: 0o644 });
    await expect(transfer({ key: join(base, "key") })).rejects.toMatchObject({
      hint: expect.stringContaining("chmod 600"),
    });
    await expect(
      transfer({ spec: { remote_password: undefined, token: "ATxxTA" } as never }),
    ).rejects.toMatchObject({ code: "access-login", message: expect.stringContaining("no key") });
    expect(await ascp.calls()).toEqual([]);
    await writeFile(join(base, "program", "aspera_tokenauth_id_rsa"), "k", { mode: 0o600 });
    await ascp.script([DONE]);
    await transfer({ spec: { remote_password: undefined, token: "ATxxTA" } as never });
    expect((await ascp.calls())[0]?.argv.join(" ")).toContain(
      `-i ${join(base, "program", "aspera_tokenauth_id_rsa")}`,
    );
  });
});
