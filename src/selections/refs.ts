/** From a value of a file to a place in an archive that is configured. */
import type { Archives, Found } from "./found.ts";
import { quoted } from "./found.ts";
import type { SelectionValue } from "./line.ts";

/** `bare` is the archive of UIDs that name none; `at` is made only for what is bad. */
export function foundFrom(
  value: SelectionValue,
  shown: string,
  bare: string,
  archives: Archives,
  at: () => string,
): Found {
  if (value.kind === "manifest") return { kind: "further", at: at(), target: value.link };
  if (value.kind === "bad") return { kind: "bad", at: at(), reason: `${value.reason} (${quoted(shown)})` };
  const archive = value.archive ?? bare;
  if (value.archive !== null && !archives.knows(archive))
    return {
      kind: "bad",
      at: at(),
      reason: `there is no archive named ${quoted(archive)} (${quoted(shown)})`,
    };
  if (value.bearer !== undefined) archives.opens?.(archive, value.bearer);
  return { kind: "ref", ref: { archive, path: value.path } };
}
