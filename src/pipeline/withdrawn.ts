/** Items that are here, and that the archive showed once but shows no more. */
import { compareKeys } from "../lib/external-sort.ts";
import type { Item } from "../model/item.ts";
import type { ItemState } from "../model/receipt.ts";
import { readExpected, type SelectionFile } from "../state/selections.ts";
import { joinStates } from "./planning.ts";

/** Items of `gone` selections (replaced in this run) that no `current` one expects and that receipts have. */
export async function* listWithdrawn(
  gone: readonly SelectionFile[],
  current: readonly SelectionFile[],
  states: () => AsyncIterable<ItemState>,
): AsyncGenerator<Item> {
  if (gone.length === 0) return;
  async function* unexpected(): AsyncGenerator<Item> {
    const expected = readExpected(current);
    try {
      let next = await expected.next();
      for await (const { item } of readExpected(gone)) {
        while (!next.done && compareKeys(next.value.item.id, item.id) < 0) next = await expected.next();
        const stillExpected = !next.done && next.value.item.id === item.id;
        if (!item.unknown && !stillExpected) yield item;
      }
    } finally {
      await expected.return(undefined);
    }
  }
  for await (const { item, state } of joinStates(unexpected(), states())) {
    if (state && state.current.type !== "removed") yield item;
  }
}
