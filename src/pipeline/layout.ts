/** Layouts by name or by template. */
import { RunError } from "../errors.ts";
import type { Capabilities, Layout } from "../sources/source.ts";

/**
 * A folder's layout for one of the archives in it: another archive's layout that this one does not have (a link's
 * file has no patient) is its default.
 */
export function folderLayoutOf(name: string, capabilities: Capabilities): Layout {
  try {
    return layoutOf(name, capabilities);
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    return layoutOf(capabilities.defaultLayout, capabilities);
  }
}

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
