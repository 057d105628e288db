/**
 * aspera-cli (IBM/aspera-cli, 4.25.4) and gantry, given the same link: what both ask the stand-in for, and how both call
 * ascp, is the same but for what is listed here.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { parseArguments } from "../../src/sandbox/ascp/arguments.ts";
import type { SeenRequest } from "../../src/sandbox/control.ts";
import { listFiles, type Stage, startStage, temporaryDir } from "../support/gantry.ts";
import { lack, program, runClient } from "./clients.ts";

const ascli = program("ascli");

/** A request as it can be compared: what is new in each run aside. */
interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly body: unknown;
  readonly type: string;
  /** How the request is let in: `Bearer`, or the name of a header. */
  readonly by: string;
}

/** A call of ascp as it can be compared. */
interface Called {
  readonly options: Readonly<Record<string, string>>;
  readonly tags: unknown;
  readonly variables: readonly string[];
  readonly sources: readonly string[];
}

/** In a selection the slash before a path is no part of it; each token is for its own order. */
function comparable(json: string): unknown {
  const body = JSON.parse(json) as Record<string, unknown>;
  const bare = (path: unknown): string => String(path).replace(/^\//u, "");
  const paths = Array.isArray(body.paths)
    ? body.paths.map((each: unknown) =>
        typeof each === "object" && each !== null && "path" in each ? { path: bare(each.path) } : each,
      )
    : undefined;
  return {
    ...body,
    ...(typeof body.path === "string" ? { path: bare(body.path) } : {}),
    ...(paths === undefined
      ? {}
      : { paths: paths.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)) }),
  };
}

function askedIn(requests: readonly SeenRequest[]): Asked[] {
  return requests
    .filter(({ method }) => method !== "ASCP")
    .map(({ method, path, query, form, json, headers }) => ({
      method,
      path: path.replace(/\/packages\/9\d\d/u, "/packages/NEW"),
      query,
      body: json === null ? { ...form, ...(form.code ? { code: "CODE" } : {}) } : comparable(json),
      type: (headers["content-type"] ?? "").split(";")[0] ?? "",
      by: headers.authorization?.split(" ")[0] ?? (headers.passcode === undefined ? "" : "passcode"),
    }));
}

/** Where ascp is told to connect back, its lists, its key and its target are each program's own. */
const OWN = new Set(["M", "file-list", "file-pair-list", "i", "dest64", "tags64"]);

function calledIn(requests: readonly SeenRequest[]): Called[] {
  return requests
    .filter(({ method }) => method === "ASCP")
    .map(({ form }) => {
      const { options } = parseArguments(form.argument ?? []);
      const tags = JSON.parse(
        Buffer.from(options.get("tags64") ?? "bnVsbA==", "base64").toString("utf8"),
        (key, value: unknown) =>
          key === "xfer_id" || key === "package" || key === "package_id" ? "ID" : value,
      ) as unknown;
      return {
        options: Object.fromEntries([...options].filter(([name]) => !OWN.has(name))),
        tags,
        variables: [...(form.variable ?? [])].sort(),
        sources: [...(form.source ?? [])].sort(),
      };
    });
}

describe.skipIf(ascli === null)(`aspera-cli beside gantry${lack(ascli, "ascli")}`, () => {
  let stage: Stage;
  let links: Readonly<Record<string, string>>;
  let home: string;

  beforeAll(async () => {
    stage = await startStage({ tls: true });
    links = await stage.sandbox.links();
    home = await temporaryDir();
    const sdk = await fetch(links.sdk?.replace(stage.sandbox.tls?.url ?? "", stage.sandbox.url) ?? "");
    await writeFile(join(home, "sdk.tar.gz"), Buffer.from(await sdk.arrayBuffer()));
    const installed = await run(["conf", "ascp", "install", "--sdk-url=file:///sdk.tar.gz"]);
    expect(installed.code, installed.said).toBe(0);
    await mkdir(join(home, "mine"));
    await writeFile(join(home, "mine/words.txt"), "my own words\n");
  });

  const run = (args: readonly string[]) =>
    runClient(ascli ?? "", args, {
      cwd: home,
      env: { HOME: home, SSL_CERT_FILE: stage.sandbox.tls?.caFile ?? "" },
      timeoutMs: 90_000,
    });
  const recorded = async (act: () => Promise<{ code: number | null; said: string }>) => {
    stage.control.clearRequests();
    const { code, said } = await act();
    expect(code, said).toBe(0);
    const requests = stage.control.requests();
    return { asked: askedIn(requests), called: calledIn(requests) };
  };
  const ofAscli = (...args: readonly string[]) => recorded(() => run(args));
  const ofGantry = (args: readonly string[], env: Record<string, string> = {}) =>
    recorded(async () => {
      const { code, stdout, stderr } = await stage.run(args, { env });
      return { code, said: stdout + stderr };
    });

  /** Everything that the one asked the other asked, too, and more than that are listings alone. */
  const expectSame = (
    one: { asked: readonly Asked[]; called: readonly Called[] },
    other: { asked: readonly Asked[]; called: readonly Called[] },
    more: RegExp = /\/files\/received(?:\/page)?$/u,
  ): void => {
    expect(other.asked).toEqual(expect.arrayContaining([...one.asked]));
    const extra = other.asked.filter((each) => !one.asked.some((same) => isDeepStrictEqual(same, each)));
    expect(extra.filter(({ path }) => !more.test(path))).toEqual([]);
    expect(other.called.map(withoutOurs)).toEqual(one.called.map(withoutTheirs));
  };
  /** gantry has the job counted first, for progress and proof. */
  const withoutOurs = ({ options: { "precalculate-job-size": counted, ...options }, ...rest }: Called) => {
    expect(counted).toBe("");
    return { ...rest, options };
  };
  /** aspera-cli gives `-t` twice, for either fallback port, with `-y 0`, which switches both off. */
  const withoutTheirs = ({ options, ...rest }: Called) => {
    if (options.t === "8443") expect(options.y).toBe("0");
    return { ...rest, options: options.t === "8443" ? { ...options, t: "8080" } : options };
  };

  it("two files of a package", async () => {
    const paths = ["sizes/text.bin", "names/Ünïcödé ☃ 日本.txt"];
    const receive = ["faspex5", "packages", "receive", `--url=${links.odd}`, ...paths];
    const one = await ofAscli(...receive, "--to-folder=odd");
    const other = await ofGantry(["get", links.odd ?? "", ...paths, "-o", join(home, "odd-gantry")]);
    expect(one.called).toHaveLength(1);
    expectSame(one, other);
  });

  it("files of a package that is encrypted at rest, and of one for a workgroup", async () => {
    const file = "Slides_Überblick.tsv.aspera-env";
    const secret = { content_protection_password: "demo at rest" };
    const receive = ["faspex5", "packages", "receive"];
    const ts = `--ts=@json:${JSON.stringify(secret)}`;
    const one = await ofAscli(...receive, `--url=${links.encrypted}`, file, "--to-folder=at-rest", ts);
    const target = join(home, "at-rest-gantry");
    const other = await ofGantry(["get", links.encrypted ?? "", file, "-o", target], {
      ASPERA_SCP_FILEPASS: "demo at rest",
    });
    expectSame(one, other);
    const sums = "Phantom_tumor_ROIs_v1.sums";
    const of = await ofAscli(...receive, `--url=${links.workgroup}`, sums, "--to-folder=of");
    const group = await ofGantry(["get", links.workgroup ?? "", sums, "-o", join(home, "of-gantry")]);
    // The list of checksums is read first, and then stored by a transfer of its own.
    expect(group.called).toHaveLength(2);
    expectSame(of, { ...group, called: group.called.slice(1) });
  });

  it("a package of Faspex 4", async () => {
    const login = ["--url=https://127.0.0.1/none", "--username=nobody", "--password=nothing"];
    const one = await ofAscli(
      ...["faspex", "package", "receive", `--link=${links.four}`, "--to-folder=four", ...login],
    );
    const other = await ofGantry(["get", links.four ?? "", "-o", join(home, "four-gantry")]);
    expectSame(one, other);
    const files = async (folder: string): Promise<string[]> =>
      (await listFiles(join(home, folder))).filter((path) => path.startsWith("PKG")).sort();
    expect(await files("four-gantry")).toEqual(await files("four"));
  });

  it("a folder's listing", async () => {
    const folder = "Phantom_HER2_cohort/SVS";
    const one = await ofAscli("faspex5", "packages", "browse", `--url=${links.package}`, folder);
    expectSame(one, await ofGantry(["ls", links.package ?? "", folder]));
  });

  it("a package that is sent", async () => {
    const send = ["faspex5", "packages", "send", `--url=${links.upload}`];
    const one = await ofAscli(...send, '@json:{"title":"Mine"}', "mine");
    const other = await ofGantry(["put", join(home, "mine"), links.upload ?? "", "--title", "Mine"]);
    // aspera-cli names a folder, gantry the files in it and a list of their checksums.
    const nameless = ({ asked, called }: typeof one) => ({
      asked: asked.map((each) => (each.path.endsWith("/upload") ? { ...each, body: "names" } : each)),
      called: called.map((each) => ({ ...each, sources: [] })),
    });
    expectSame(nameless(one), nameless(other), /\/upload_details$/u);
  });
});
