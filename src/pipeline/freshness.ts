/** Asks archives whose lists do not tell when data change, for items that are here. */
import { setMaxListeners } from "node:events";
import { RunError } from "../errors.ts";
import type { Item } from "../model/item.ts";
import type { Receipt } from "../model/receipt.ts";
import type { Source, SourceContext } from "../sources/source.ts";

/** So many answers in a row that are none mean that the archive is away. */
const FAILURE_LIMIT = 5;

/**
 * Whether an item that is here is still what the archive has. An item whose question fails counts as changed: then its
 * fetch tells what is wrong with it. Throws when the archive is away or refuses the login.
 */
export function askFreshness(
  source: (item: Item) => Source,
  context: SourceContext,
): (item: Item, receipt: Receipt) => Promise<boolean> {
  // Each of the questions under way listens to it: no leak.
  const signal = AbortSignal.any([context.signal]);
  setMaxListeners(0, signal);
  const asking: SourceContext = { ...context, signal };
  let failures = 0;
  return async (item, receipt) => {
    const from = source(item);
    if (!from.isCurrent) return true;
    try {
      const current = await from.isCurrent(item, receipt, asking);
      failures = 0;
      return current;
    } catch (error) {
      if (!(error instanceof RunError) || signal.aborted) throw error;
      failures += error.code === "access-item" ? 0 : 1;
      const away = error.code === "archive-unreachable" || error.code === "access-login";
      if (away || failures >= FAILURE_LIMIT) throw error;
      context.log("info", `${item.address}: whether it changed was not to be learnt: ${error.message}`, {
        code: error.code,
      });
      return false;
    }
  };
}
