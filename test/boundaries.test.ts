/**
 * Who may import whom. A layer that reaches where it must not is a fault of design, so it fails like any other.
 * Tests are exempt: they put parts together on purpose.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const src = join(root, "src");

interface Import {
  /** Relative to src/, with `/`. */
  readonly from: string;
  readonly to: string;
  readonly line: number;
  /** `static` ones are what an import cycle is made of; types vanish and lazy ones wait. */
  readonly form: "static" | "type" | "lazy";
}

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === "fixtures" ? [] : sourceFiles(path);
    return /\.tsx?$/.test(entry.name) && !/\.(test|live\.test)\.tsx?$/.test(entry.name) ? [path] : [];
  });
}

/** The relative imports of one file: import and export declarations, `import()` and `import("…").Type`. */
function importsOf(path: string, text: string): Import[] {
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined, form: Import["form"]): void => {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier) || !specifier.text.startsWith("."))
      return;
    found.push({
      from: relative(src, path).replaceAll("\\", "/"),
      to: relative(src, resolve(dirname(path), specifier.text)).replaceAll("\\", "/"),
      line: file.getLineAndCharacterOfPosition(specifier.getStart()).line + 1,
      form,
    });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node))
      add(
        node.moduleSpecifier,
        node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword ? "type" : "static",
      );
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly ? "type" : "static");
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
      add(node.argument.literal, "type");
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node.arguments[0], "lazy");
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

const base = ["errors.ts", "model/", "lib/"];
const standIn = /^sources\/([^/]+)\/sandbox[^/]*(\/|$)/;

/** What a file may reach: paths, and folders that end in `/`. Null: everything. */
function allowed({ from, form }: Import): readonly string[] | null {
  const [layer = "", part = ""] = from.split("/");
  if (["index.ts", "gantry.ts", "access.ts"].includes(from))
    return [
      "gantry.ts",
      "access.ts",
      ...base,
      "config.ts",
      "version.ts",
      "accounts/",
      "archives.ts",
      "doctor/",
      "state/",
      "checksums/",
      "transports/",
      "sinks/",
      "catalogue/",
      "selections/",
      "sources/",
      "pipeline/",
    ];
  switch (layer) {
    case "errors.ts":
    case "version.ts":
      return [];
    case "config.ts":
      return base;
    case "archives.ts":
      return [...base, "config.ts", "accounts/", "sources/", "transports/"];
    case "doctor":
      return [...base, "transports/", "doctor/"];
    case "accounts":
      return [...base, "config.ts", "accounts/"];
    case "model":
    case "lib":
      return base;
    case "state":
    case "checksums":
    case "transports":
      return [...base, `${layer}/`];
    case "sinks":
    case "catalogue":
      return [...base, "state/", `${layer}/`];
    case "selections":
      return [...base, "transports/", "selections/"];
    case "sources":
      // The register and what stands beside it know the kinds; a kind knows the contract.
      if (!from.slice("sources/".length).includes("/")) return [...base, "transports/", "sources/"];
      if (standIn.test(from)) return [...base, `sources/${part}/`, "sandbox/"];
      return [...base, "transports/", "sources/source.ts", `sources/${part}/`];
    case "pipeline":
      return [
        ...base,
        "state/",
        "checksums/",
        "selections/",
        "sources/source.ts",
        "sinks/sink.ts",
        "pipeline/",
      ];
    case "cli":
      if (/^cli\/commands\/(sandbox|demo)\.ts$/.test(from) && form !== "static")
        return ["index.ts", "cli/", "sandbox/server.ts"];
      if (from === "cli/commands/slurm.ts" && form !== "static")
        return ["index.ts", "cli/", "slurm/script.ts"];
      return ["index.ts", "cli/"];
    case "web":
    case "slurm":
      return ["index.ts", `${layer}/`];
    case "sandbox":
      return [...base, "sandbox/"];
    default:
      return null;
  }
}

/** Why an import is a breach, or undefined. */
function breach(found: Import): string | undefined {
  const { from, to } = found;
  const where = `src/${from}:${found.line} imports src/${to}`;
  if (standIn.test(from) && /^sources\/[^/]+\/(api\.ts|map\.ts|wire\/.*)$/.test(to))
    return `${where}: a stand-in answers to the fixtures, not to the code it tests`;
  if (from.startsWith("sandbox/") && standIn.test(to)) return undefined;
  const reach = allowed(found);
  if (reach === null) return `${where}: no layer is known for src/${from}; add it to test/boundaries.test.ts`;
  return reach.some((place) => (place.endsWith("/") ? to.startsWith(place) : to === place))
    ? undefined
    : where;
}

/** Each cycle of static imports once, as its path. */
function cycles(imports: readonly Import[]): string[] {
  const next = new Map<string, string[]>();
  for (const { from, to, form } of imports)
    if (form === "static") next.set(from, [...(next.get(from) ?? []), to]);
  const done = new Set<string>();
  const found: string[] = [];
  const walk = (file: string, trail: readonly string[]): void => {
    if (trail.includes(file)) {
      found.push([...trail.slice(trail.indexOf(file)), file].map((name) => `src/${name}`).join(" -> "));
      return;
    }
    if (done.has(file)) return;
    for (const to of next.get(file) ?? []) walk(to, [...trail, file]);
    done.add(file);
  };
  for (const file of next.keys()) walk(file, []);
  return found;
}

const imports = sourceFiles(src).flatMap((path) => importsOf(path, readFileSync(path, "utf8")));

describe("who imports whom", () => {
  it("keeps to the layers", () => {
    expect(imports.length).toBeGreaterThan(0);
    expect(imports.map(breach).filter((line) => line !== undefined)).toEqual([]);
  });

  it("has no import cycles", () => {
    expect(cycles(imports)).toEqual([]);
  });
});

describe("the check itself", () => {
  const breaches = (from: string, text: string): string[] =>
    importsOf(join(src, from), text)
      .map(breach)
      .filter((line) => line !== undefined);

  it.each([
    ["model/item.ts", 'import { plan } from "../pipeline/plan.ts";'],
    ["lib/backoff.ts", 'import type { Item } from "../sources/source.ts";'],
    ["sources/loris/index.ts", 'import { x } from "../nbia/api.ts";'],
    ["sources/nbia/index.ts", 'import { x } from "../../pipeline/run.ts";'],
    ["sources/nbia/sandbox.ts", 'import { x } from "./api.ts";'],
    ["sources/nbia/sandbox-v4.ts", 'import type { x } from "./map.ts";'],
    ["pipeline/run.ts", 'const x = await import("../sources/nbia/index.ts");'],
    ["pipeline/run.ts", 'import { x } from "../sinks/folder.ts";'],
    ["cli/commands/ls.ts", 'import { x } from "../../lib/bytes.ts";'],
    ["cli/commands/ls.ts", 'export { x } from "../../model/item.ts";'],
    ["cli/commands/demo.ts", 'import { x } from "../../sandbox/server.ts";'],
    ["cli/commands/ls.ts", 'const x = await import("../../sandbox/server.ts");'],
    ["sandbox/server.ts", 'import { x } from "../sources/nbia/api.ts";'],
    ["selections/read.ts", 'import { x } from "../state/selections.ts";'],
    ["sources/nbia/map.ts", 'import { x } from "../../selections/line.ts";'],
    ["index.ts", 'import { x } from "./cli/main.ts";'],
    ["novelty/x.ts", 'import { x } from "../errors.ts";'],
  ])("sees a breach in %s: %s", (from, text) => {
    expect(breaches(from, `// first line\n${text}`)).toEqual([expect.stringContaining(`src/${from}:2`)]);
  });

  it.each([
    ["sources/nbia/index.ts", 'import { x } from "../../transports/http.ts";'],
    ["sandbox/server.ts", 'import { x } from "../sources/nbia/sandbox.ts";'],
    ["cli/commands/demo.ts", 'const x = await import("../../sandbox/server.ts");'],
    ["pipeline/run.ts", 'import type { Source } from "../sources/source.ts";'],
    ["index.ts", 'export { x } from "./pipeline/run.ts";'],
  ])("lets %s do: %s", (from, text) => {
    expect(breaches(from, text)).toEqual([]);
  });

  it("sees a cycle, and none in types", () => {
    const edge = (from: string, to: string, form: Import["form"]): Import => ({ from, to, line: 1, form });
    expect(cycles([edge("a.ts", "b.ts", "static"), edge("b.ts", "a.ts", "static")])).toHaveLength(1);
    expect(cycles([edge("a.ts", "b.ts", "static"), edge("b.ts", "a.ts", "type")])).toEqual([]);
  });
});
