/**
 * What a user can meet or read is documented somewhere below docs/, and links between documents hold. Commands and
 * flags are judged beside their definitions, in src/cli/program.test.ts.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, it } from "vitest";
import { ERROR_TABLE } from "../src/errors.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function documents(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory())
      return ["node_modules", "dist", "coverage", "fixtures"].includes(entry.name) ||
        entry.name.startsWith(".")
        ? []
        : documents(path);
    return entry.name.endsWith(".md") ? [path] : [];
  });
}

const docs = documents(join(root, "docs"))
  .filter((path) => !relative(root, path).startsWith(join("docs", "decisions")))
  .map((path) => readFileSync(path, "utf8"))
  .join("\n");

/** As a word of its own: `--since` is not documented by `--study-since`, nor `ls` by `tools`. */
const mentions = (text: string, word: string): boolean =>
  new RegExp(`(?<![\\w-])${word.replace(/[.*+?^$()|[\]\\{}]/g, "\\$&")}(?![\\w-])`).test(text);

/** In code style or a code block, so that a common word like `status` counts only where the thing is meant. */
const code = [...docs.matchAll(/```[\s\S]*?```|`[^`\n]+`/g)].map(([text]) => text).join("\n");

/** The values of the discriminator `type` of `RunEvent`. */
function eventTypes(): string[] {
  const path = join(root, "src/pipeline/events.ts");
  const file = ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (
      ts.isPropertySignature(node) &&
      node.name.getText() === "type" &&
      node.type !== undefined &&
      ts.isLiteralTypeNode(node.type) &&
      ts.isStringLiteral(node.type.literal)
    )
      found.push(node.type.literal.text);
    ts.forEachChild(node, visit);
  };
  for (const statement of file.statements)
    if (ts.isTypeAliasDeclaration(statement) && statement.name.text === "RunEvent") visit(statement);
  return found;
}

describe("docs/ names", () => {
  it("every error code", () => {
    expect(Object.keys(ERROR_TABLE).filter((word) => !mentions(code, word))).toEqual([]);
  });

  it("every event type", () => {
    expect(eventTypes()).toContain("run-finished");
    expect(eventTypes().filter((word) => !mentions(code, word))).toEqual([]);
  });

  it("every archive kind", () => {
    const folder = join(root, "src/sources");
    const kinds = readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name !== "template")
      .map((entry) => entry.name);
    expect(kinds).toContain("nbia");
    expect(kinds.filter((word) => !mentions(code, word))).toEqual([]);
  });
});

/** The anchors that a Markdown page has, by the rule of the common forges. */
function anchors(text: string): Set<string> {
  const headings = [...text.replace(/```[\s\S]*?```/g, "").matchAll(/^#{1,6}\s+(.+?)\s*#*$/gm)];
  return new Set(
    headings.map(([, title]) =>
      title!
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .replaceAll(" ", "-"),
    ),
  );
}

describe("links", () => {
  it("between the documents resolve", () => {
    const broken: string[] = [];
    for (const path of documents(root)) {
      const text = readFileSync(path, "utf8").replace(/```[\s\S]*?```|`[^`\n]+`/g, "");
      const targets = [...text.matchAll(/\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)/gm)];
      for (const [, inline, reference] of targets) {
        const target = (inline ?? reference)!;
        if (/^[a-z][a-z0-9+.-]*:/i.test(target)) continue;
        const [file = "", anchor] = target.split("#");
        const to = file === "" ? path : join(dirname(path), decodeURIComponent(file));
        const fine =
          existsSync(to) &&
          (anchor === undefined || !to.endsWith(".md") || anchors(readFileSync(to, "utf8")).has(anchor));
        if (!fine) broken.push(`${relative(root, path)}: ${target}`);
      }
    }
    expect(broken).toEqual([]);
  });
});
