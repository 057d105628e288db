/** Tours: a Python script that calls a client's functions one after the other and prints what each returned. */
import { join } from "node:path";
import { expect } from "vitest";
import type { SandboxSeries } from "../../src/sandbox/data/dataset.ts";
import { root } from "../support/gantry.ts";
import { type Archive, uidsOf, writeManifest } from "./archive.ts";
import { startArchiveFront } from "./archive-front.ts";
import { type Ended, runClient } from "./clients.ts";

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
type Row = Readonly<Record<string, Json>>;

export interface Tour {
  readonly ended: Ended;
  /** What a call returned; fails the test when it raised. */
  value(call: string): Json;
  /** The same where it is a list of objects, as most are. */
  rows(call: string): readonly Row[];
  /** What a call raised, as `ValueError: …`; empty when it returned. */
  raised(call: string): string;
  /** Calls that raised. */
  readonly failures: readonly string[];
  /** Hosts other than the archive's that were asked for. */
  readonly refused: readonly string[];
}

export interface Facts {
  readonly collection: string;
  readonly patient: string;
  /** Series of the collection; the first is the one that single calls ask for. */
  readonly series: readonly SandboxSeries[];
  readonly rtstruct: string;
  readonly seg: string;
  readonly doi: string;
}

/** The generated data's collection with one of everything. */
export function phantomFacts(all: readonly SandboxSeries[]): Facts {
  const series = all.filter(({ collection }) => collection === "Phantom-CT");
  const of = (modality: string): SandboxSeries => {
    const found = series.find((each) => each.modality === modality);
    if (found === undefined) throw new Error(`no ${modality} in the generated data`);
    return found;
  };
  // Below two series have the same first image of a patient: the scout has a body part of null, too.
  const first = series.find(({ seriesDescription }) => seriesDescription === "Announces what it has");
  if (first === undefined) throw new Error("the generated data changed");
  return {
    collection: "Phantom-CT",
    patient: first.patientId,
    series: [first, ...series.filter((each) => each !== first)],
    rtstruct: of("RTSTRUCT").seriesInstanceUid,
    seg: of("SEG").seriesInstanceUid,
    doi: first.dataDescriptionUri ?? "",
  };
}

/** Run `test/judges/<script>` with a Python against the sandbox behind the archive's own names. */
export async function runTour(
  python: string,
  script: string,
  archive: Archive,
  facts: Facts,
  folder: string,
): Promise<Tour> {
  const front = await startArchiveFront(archive.stage.sandbox.url);
  const [first] = facts.series;
  const given = {
    ...facts,
    series: first?.seriesInstanceUid,
    image: first?.instances()[0]?.sopInstanceUid,
    uids: uidsOf(facts.series),
    manifest: await writeManifest(folder, "cart.tcia", archive.stage.sandbox.url, uidsOf(facts.series)),
    folder,
    user: "demo",
    password: "demo",
  };
  const ended = await runClient(python, [join(root, "test/judges", script), JSON.stringify(given)], {
    cwd: folder,
    env: front.environment,
  });
  const lines = ended.stdout
    .split("\n")
    .filter((line) => line.startsWith('{"call"'))
    .map((line) => JSON.parse(line) as { call: string; value?: Json; raised?: string });
  const find = (call: string) => {
    const line = lines.find((each) => each.call === call);
    expect(line, `the call ${call}\n${ended.said.slice(-2000)}`).toBeDefined();
    return line;
  };
  const value = (call: string): Json => {
    const line = find(call);
    expect(line?.raised).toBeUndefined();
    return line?.value ?? null;
  };
  return {
    ended,
    value,
    rows: (call) => value(call) as readonly Row[],
    raised: (call) => find(call)?.raised ?? "",
    failures: lines.filter(({ raised }) => raised !== undefined).map(({ call }) => call),
    refused: front.refused,
  };
}

/** A column of rows, sorted; absent is null. */
export function column(rows: readonly Row[], name: string): Json[] {
  return rows.map((row) => row[name] ?? null).sort((a, b) => (String(a) < String(b) ? -1 : 1));
}
