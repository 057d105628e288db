/**
 * What is asked for in a folder: what was typed, else all that ever was. Asks are listed and written as selections; one
 * that was begun is remembered until its selection is there.
 */
import { RunError } from "../errors.ts";
import type { Item } from "../model/item.ts";
import { type Filters, filterNames } from "../model/query.ts";
import type { ItemState } from "../model/receipt.ts";
import { requestKey } from "../model/selection.ts";
import { type Asking, readAskedAddresses, readAsking, removeAsking, writeAsking } from "../state/asking.ts";
import { hasDrops, readDropRules } from "../state/dropped.ts";
import { keepLink } from "../state/private-links.ts";
import {
  currentSelections,
  readItems,
  readSelections,
  type SelectionFile,
  writeSelection,
} from "../state/selections.ts";
import type { StateFolder } from "../state/state-folder.ts";
import { type Ask, type AskContext, askAgain, readAsk, repeatAsk } from "./asks.ts";
import { isOnDroppedBranch } from "./drop-selector.ts";
import { joinStates } from "./planning.ts";

export interface FolderAsksOptions {
  /** Absolute path of the target folder. */
  readonly dir: string;
  readonly run: string;
  /** As typed: ADDRESS PATH…, or none. */
  readonly words: readonly string[];
  readonly filters: Filters;
  /** What is typed takes the place of all that was asked for before. */
  readonly replace: boolean;
  readonly skipBad: boolean;
  /** True: what has a selection is not asked again. */
  readonly known: boolean;
  readonly context: AskContext;
  /** Sorted by item id. */
  readonly states: (state: StateFolder | null) => () => AsyncIterable<ItemState>;
}

export interface Asked {
  readonly ask: Ask;
  readonly replaceAll: boolean;
}

export class FolderAsks {
  readonly #options: FolderAsksOptions;

  constructor(options: FolderAsksOptions) {
    this.#options = options;
  }

  /** Names are resolved, so that a misspelt word ends here. Null: nothing was typed. Throws `usage`, `unknown-name` … */
  async readTyped(): Promise<Ask | null> {
    const { words, filters, replace, skipBad, context } = this.#options;
    if (words.length === 0) {
      if (replace) {
        throw new RunError(
          "usage",
          "--replace puts a new request in the place of all earlier ones, and none was named",
          {
            hint: "name the address, too",
          },
        );
      }
      const [filter] = filterNames(filters);
      if (filter === undefined) return null;
      throw new RunError("usage", `--${filter} narrows an address, and none was given`, {
        hint: "name the address too, or leave the filter out: what was asked for before keeps its own filters",
      });
    }
    return readAsk(words, filters, { skipBad }, context);
  }

  /**
   * What was typed, else all that the folder was ever asked for, what has no selection yet included. `settled`: those
   * of which everything was dropped.
   */
  async wanted(
    typed: Ask | null,
    state: StateFolder | null,
  ): Promise<{ readonly asks: readonly Asked[]; readonly settled: readonly SelectionFile[] }> {
    const { context, replace, known } = this.#options;
    if (typed) return { asks: [{ ask: typed, replaceAll: replace }], settled: [] };
    if (!state) return { asks: [], settled: [] };
    const asking = await readAsking(state);
    // What came before a request that replaces everything is asked for no more.
    const first = Math.max(
      0,
      asking.findLastIndex((each) => each.replaceAll),
    );
    const replaceAll = asking[first]?.replaceAll ?? false;
    const asks = new Map<string, Asked>();
    const settled: SelectionFile[] = [];
    const drops = await hasDrops(state);
    const asked = replaceAll ? [] : currentSelections(await readSelections(state));
    for (const selection of asked) {
      if (known || (drops && (await this.#isAllDropped(selection, state)))) settled.push(selection);
      else
        asks.set(requestKey(selection.header.request), {
          ask: repeatAsk(selection, context),
          replaceAll: false,
        });
    }
    for (const each of asking.slice(first)) {
      const ask = askAgain(each.request, () => readAskedAddresses(each), context);
      asks.set(requestKey(each.request), { ask, replaceAll: each.replaceAll });
    }
    return { asks: [...asks.values()], settled };
  }

  /** Kept until the selection is there, so that a run that ends while it lists is not forgotten. */
  async remember(state: StateFolder, { request, links, addresses }: Ask): Promise<void> {
    const { run, replace } = this.#options;
    for (const [archive, link] of links ?? []) await keepLink(state, archive, link);
    await writeAsking(state, run, { request, replaceAll: replace, addresses: addresses?.() ?? null });
  }

  /** Lists what is asked for and writes its selection; then nothing of it is only asked for any more. */
  async select(
    state: StateFolder,
    ask: Ask,
    { replaceAll, typed }: { readonly replaceAll: boolean; readonly typed: boolean },
  ): Promise<SelectionFile> {
    const key = requestKey(ask.request);
    const forget = async (which: (asking: Asking) => boolean): Promise<void> => {
      for (const asking of await readAsking(state)) if (which(asking)) await removeAsking(asking);
    };
    const isSame = ({ request }: Asking): boolean => requestKey(request) === key;
    try {
      const selection = await writeSelection(state, ask.request, this.items(ask, typed, state), {
        replaceAll,
      });
      await forget((asking) => replaceAll || isSame(asking));
      return selection;
    } catch (error) {
      // It can't be had as it was asked for, and who typed it is told: there is nothing to go on with.
      if (typed && error instanceof RunError && error.exit === 2) await forget(isSame);
      throw error;
    }
  }

  /** What is asked for; ends before anything is fetched where an archive says that it may not take the place of what is here. */
  async *#checked(ask: Ask, state: StateFolder | null): AsyncGenerator<Item> {
    const { request } = ask;
    const source = request.kind === "paths" ? await this.#options.context.source(request.archive) : null;
    if (!state || !source?.checkChange) {
      yield* ask.items();
      return;
    }
    for await (const { item, state: found } of joinStates(ask.items(), this.#options.states(state)())) {
      const before = found?.current.type === "removed" ? null : (found?.current.revision ?? null);
      if (before !== null && before !== item.revision) source.checkChange(item, before);
      yield item;
    }
  }

  /** The items of an ask. Of a typed one `no-match` when every one of them was dropped from the folder. */
  async *items(ask: Ask, typed: boolean, state: StateFolder | null): AsyncGenerator<Item> {
    if (!typed || !state || !(await hasDrops(state))) {
      yield* this.#checked(ask, state);
      return;
    }
    const isDropped = await this.#dropJudge(state);
    let items = 0;
    let dropped = 0;
    const asked = this.#checked(ask, state);
    for await (const { item, state: found } of joinStates(asked, this.#options.states(state)())) {
      items += 1;
      if (await isDropped(item, found)) dropped += 1;
      yield item;
    }
    if (items > 0 && dropped === items) {
      throw new RunError("no-match", `all that was asked for was dropped from ${this.#options.dir}`, {
        hint: "what was dropped is never fetched into its folder again; name another folder",
      });
    }
  }

  async #dropJudge(state: StateFolder): Promise<(item: Item, found: ItemState | null) => Promise<boolean>> {
    const rules = await readDropRules(state);
    return async (item, found) => {
      if (found?.current.type === "removed") return true;
      const { capabilities } = await this.#options.context.source(item.archive);
      return isOnDroppedBranch(item, capabilities, rules);
    };
  }

  /** Whether everything that a selection expects was dropped: then the archive need not be asked again. */
  async #isAllDropped(selection: SelectionFile, state: StateFolder): Promise<boolean> {
    const isDropped = await this.#dropJudge(state);
    for await (const { item, state: found } of joinStates(
      readItems(selection.path),
      this.#options.states(state)(),
    ))
      if (!(await isDropped(item, found))) return false;
    return true;
  }
}
