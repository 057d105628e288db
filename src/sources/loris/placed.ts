/**
 * Trees that the published script for PREVENT-AD left (LAMID_PREVENT-AD): each file has a hidden neighbour
 * `.NAME.etag` with the value that the server sent. The value was written for any reply, also of a failure, and before
 * the data were whole, so that it counts only together with a file that proves to be whole by its own form. Files whose
 * form proves nothing (tables, gradients, logs) are small, and fetched.
 */
import type { PlacedFiles } from "../source.ts";
import { ETAG_FACT, isConstant } from "./etags.ts";
import { checkedBody } from "./format-check.ts";

export const placed: PlacedFiles = {
  async examine(item, { read, beside }) {
    const name = String(item.labels.File);
    if (!/\.(gz|json|mnc)$/u.test(name)) return null;
    const etag = Buffer.from((await beside(`.${name}.etag`)) ?? [])
      .toString("latin1")
      .trim();
    // As sent: without quotes, 32 hex digits (LORIS 20.1).
    if (!/^[0-9a-f]{32}$/u.test(etag) || isConstant(etag)) return null;
    for await (const _ of checkedBody(name, read()));
    return { facts: { [ETAG_FACT]: etag }, proof: ["etag", "format"] };
  },
};
