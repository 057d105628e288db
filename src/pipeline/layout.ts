/** Layouts by name or by template. */
import { RunError } from "../errors.ts";
import type { Capabilities, Layout } from "../sources/source.ts";

/**
 * A named layout of the archive, or a template such as `{collection}/{patient}/{modality}-{SeriesNumber}`: words
 * in braces are field words or columns, `/` begins a new folder. Throws `usage`.
 */
export function layoutOf(name: string, capabilities: Capabilities): Layout {
  const known = capabilities.layouts[name];
  if (known) return known;
  const names = Object.keys(capabilities.layouts).join(", ");
  if (!name.includes("{"))
    throw new RunError("usage", `there is no layout ${JSON.stringify(name)}`, {
      hint: `layouts are ${names}, or a template like '{collection}/{patient}/{series}'`,
    });
  const columnOf = (word: string): string => {
    const column = capabilities.fields[word] ?? capabilities.columns.find((each) => each === word);
    if (column === undefined) {
      throw new RunError("usage", `the layout has the unknown word {${word}}`, {
        hint: `words are ${[...Object.keys(capabilities.fields), ...capabilities.columns].join(", ")}`,
      });
    }
    return column;
  };
  const segments = name.split("/").filter((segment) => segment !== "");
  const parsed = segments.map((segment) =>
    segment
      .split(/(\{[^{}]*\})/u)
      .map((text) => (text.startsWith("{") ? { column: columnOf(text.slice(1, -1)) } : { text })),
  );
  return (item) => ({
    folder: parsed.map((parts) =>
      parts.map((part) => ("text" in part ? part.text : String(item.labels[part.column] ?? ""))).join(""),
    ),
  });
}
