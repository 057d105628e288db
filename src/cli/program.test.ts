import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ERROR_TABLE } from "../errors.ts";
import type { Flag } from "./command.ts";
import { FILTER_FLAGS, readFilters } from "./filters.ts";
import { COMMANDS, readCommandLine } from "./program.ts";

const read = (...argv: string[]) => readCommandLine(argv, { columns: 100, version: async () => "1.2.3" });

async function flagsOf(...argv: string[]): Promise<Record<string, unknown>> {
  const reading = await read(...argv);
  if (reading.kind !== "run") throw new Error(reading.text);
  return reading.call.flags;
}

const textOf = async (...argv: string[]): Promise<string> => {
  const reading = await read(...argv);
  return reading.kind === "show" ? reading.text : "";
};

describe("the command line", () => {
  it("reads every filter", async () => {
    const flags = await flagsOf(
      ...["find", "tcia:"],
      ...[
        "--collection",
        "LCTSC,LIDC-IDRI",
        "--collection",
        "with\\, comma",
        "--patient",
        "p1",
        "--study",
        "1.2.3.4",
      ],
      ...["--series", "1.2.3.5", "--modality", "CT, MR,CT", "--body-part", "CHEST", "--manufacturer", "GE"],
      ...[
        "--model",
        "m",
        "--visit",
        "01",
        "--project",
        "x",
        "--shared-list",
        "my list,other",
        "--since",
        "2024-01-31",
        "--until",
        "2024-02-29",
      ],
      ...[
        "--study-since",
        "2000-01-01",
        "--study-until",
        "2000-01-02",
        "--include",
        "A/{b,c}/**",
        "--include",
        "D",
      ],
      ...["--exclude", "*/x", "--limit", "10", "--limit-patients", "2"],
    );
    expect(readFilters(flags)).toEqual({
      words: {
        collection: ["LCTSC", "LIDC-IDRI", "with, comma"],
        patient: ["p1"],
        study: ["1.2.3.4"],
        series: ["1.2.3.5"],
        modality: ["CT", "MR"],
        "body-part": ["CHEST"],
        manufacturer: ["GE"],
        model: ["m"],
        visit: ["01"],
        project: ["x"],
        "shared-list": ["my list", "other"],
      },
      dates: {
        since: "2024-01-31",
        until: "2024-02-29",
        "study-since": "2000-01-01",
        "study-until": "2000-01-02",
      },
      include: ["A/{b,c}/**", "D"],
      exclude: ["*/x"],
      limit: 10,
      limitPatients: 2,
    });
    expect(FILTER_FLAGS).toHaveLength(19);
  });

  it("reads every flag of get", async () => {
    const flags = await flagsOf(
      ...["get", "tcia:A", "B", "-o", "dir", "--layout", "uid", "--jobs", "4", "--bandwidth", "100Mbps"],
      ...["--retries", "0", "--stall-timeout", "30", "--dry-run", "--scratch", "s", "--recheck", "--replace"],
      ...[
        "--skip-bad",
        "--prune",
        "--detach",
        "--notify",
        "cat",
        "--notify-every",
        "1h",
        "--progress",
        "plain",
      ],
      ...["--log-dir", "l", "--json"],
    );
    expect(flags).toEqual({
      output: "dir",
      layout: "uid",
      jobs: 4,
      bandwidth: "100Mbps",
      retries: 0,
      stallTimeout: "30",
      dryRun: true,
      scratch: "s",
      recheck: true,
      replace: true,
      skipBad: true,
      prune: true,
      detach: true,
      notify: "cat",
      notifyEvery: "1h",
      progress: "plain",
      logDir: "l",
      json: true,
    });
  });

  it.each([
    [
      ["ls", "-R", "-l", "tcia:", "--format", "csv", "--fields", "a, b"],
      { recursive: true, long: true, format: "csv", fields: ["a", "b"] },
    ],
    [["find", "tcia:", "--save", "x.jsonl", "--skip-bad"], { save: "x.jsonl", skipBad: true }],
    [["verify", "d", "--strict", "--jobs", "2", "--write-sums"], { strict: true, jobs: 2, writeSums: true }],
    [["verify", "--sums", "MD5SUMS"], { sums: "MD5SUMS" }],
    [["verify", "d", "--write-sums", "f"], { writeSums: "f" }],
    [["status", "d", "--watch", "--check"], { watch: true, check: true }],
    [
      ["sandbox", "--port", "0", "--data", "d", "--seed", "7", "--precompute"],
      { port: 0, data: "d", seed: 7, precompute: true },
    ],
  ])("reads %j", async (argv, flags) => {
    expect(await flagsOf(...argv)).toEqual(flags);
  });

  it("leaves a command after -- alone", async () => {
    const reading = await read("sandbox", "--seed", "3", "--", "ls", "-l", "--seed", "x");
    expect(reading).toMatchObject({ call: { words: ["ls", "-l", "--seed", "x"], flags: { seed: 3 } } });
  });

  it("takes - as a word", async () => {
    expect(await read("find", "-", "--limit", "1")).toMatchObject({ call: { words: ["-"] } });
  });

  it.each<[string[], RegExp, RegExp]>([
    [["lss"], /no command "lss"/, /did you mean `gantry ls`/],
    [["verfiy", "x"], /no command "verfiy"/, /`gantry verify`/],
    [["send", "x"], /no command "send"/, /gantry/],
    [["help", "gte"], /no command "gte"/, /`gantry get`/],
    [["get", "--outptu", "x"], /unknown option '--outptu'/, /--output/],
    [["get", "-o"], /argument missing/, /gantry get --help/],
    [["ls"], /missing required argument 'address'/, /gantry ls --help/],
    [["stop", "a", "b"], /too many arguments/, /gantry stop --help/],
    [["values", "tcia:"], /missing required argument 'field'/, /gantry values/],
    [["ls", "tcia:", "--format", "yaml"], /yaml.*table, json, jsonl, csv, tsv, xml, html, md/, /help/],
    [["--nonsense"], /unknown option '--nonsense'/, /gantry --help/],
  ])("refuses %j", async (argv, message, hint) => {
    await expect(read(...argv)).rejects.toMatchObject({
      name: "UsageError",
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    });
  });

  it.each([
    ["--since", "2024-02-30"],
    ["--since", "20240101"],
    ["--study-until", "yesterday"],
    ["--limit", "1.5"],
    ["--limit", "0"],
    ["--limit-patients", "-3"],
    ["--modality", ","],
  ])("refuses %s %s", async (flag, value) => {
    await expect(read("find", "tcia:", flag, value)).rejects.toMatchObject({
      name: "UsageError",
      message: expect.stringContaining(flag),
    });
  });

  it("refuses dates in the wrong order", async () => {
    const flags = await flagsOf("find", "tcia:", "--since", "2024-02-01", "--until", "2024-01-01");
    expect(() => readFilters(flags)).toThrow(/--since 2024-02-01 is after --until 2024-01-01/);
  });

  it("shows the version and the commands", async () => {
    expect(await textOf("--version")).toBe("1.2.3\n");
    const help = await textOf("--help");
    for (const { name, summary } of COMMANDS) {
      expect(help).toMatch(new RegExp(`^  ${name} +${summary.replaceAll(".", "\\.")}$`, "m"));
    }
    expect(await textOf()).toBe(help);
    expect(await textOf("help")).toBe(help);
  });

  it.each(COMMANDS.map(({ name }) => name))("helps with %s: every flag, and examples", async (name) => {
    const help = await textOf(name, "--help");
    const { command } = await COMMANDS.find((entry) => entry.name === name)!.load();
    const shown = command.flags.filter((flag: Flag) => flag.hidden !== true);
    for (const { flags } of shown) expect(help).toContain(flags);
    expect(help).not.toContain("--detached");
    expect(command.examples.length).toBeGreaterThan(0);
    for (const [line] of command.examples) expect(help).toContain(line);
    expect(await textOf("help", name)).toBe(help);
  });
});

describe("the documents", () => {
  const read = (name: string): string => readFileSync(new URL(`../../docs/${name}`, import.meta.url), "utf8");

  it("name every command, flag and example", async () => {
    const text = read("commands.md");
    for (const { name, load } of COMMANDS) {
      expect(text).toContain(`\n## ${name}\n`);
      const { command } = await load();
      for (const { flags, hidden } of command.flags) {
        if (!hidden) expect(text).toContain(`| \`${flags.replaceAll("|", "\\|")}\` |`);
      }
      for (const [line] of command.examples) expect(text).toContain(line);
    }
  });

  it("name every code with its exit", () => {
    const text = read("exit-codes.md");
    for (const [code, { exit, retry }] of Object.entries(ERROR_TABLE)) {
      expect(text).toContain(`| \`${code}\` | ${exit} | ${retry} |`);
    }
  });
});
