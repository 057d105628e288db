/** The pipeline over any source, with a clock that does not wait. */

import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NO_FILTERS } from "../../src/index.ts";
import type { Clock, Context } from "../../src/lib/context.ts";
import { RetryLoop } from "../../src/lib/retry.ts";
import type { RunEvent } from "../../src/pipeline/events.ts";
import { get } from "../../src/pipeline/get.ts";
import type { GetOptions } from "../../src/pipeline/run-options.ts";
import { openStore } from "../../src/sinks/index.ts";
import type { Source, SourceContext } from "../../src/sources/source.ts";
import type { RunResult } from "./gantry.ts";

/** Real time, but pauses are over at once and count as passed. */
export class HastyClock implements Clock {
  sleptMs = 0;

  now(): Date {
    return new Date(Date.now() + this.sleptMs);
  }

  monotonicMs(): number {
    return performance.now() + this.sleptMs;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.sleptMs += ms;
    await new Promise((resolve) => setImmediate(resolve));
    signal?.throwIfAborted();
  }
}

export function hastyContext(signal: AbortSignal = new AbortController().signal): Context & {
  readonly clock: HastyClock;
} {
  return { signal, clock: new HastyClock(), random: () => 0.5, log: () => undefined };
}

export function sourceContext(context: Context = hastyContext(), retries = 0): SourceContext {
  return {
    ...context,
    retry: new RetryLoop({ retries, baseMs: 10, capMs: 100 }, context),
    temporary: async () => mkdtemp(join(tmpdir(), "gantry-test-sort-")),
  };
}

export interface PipelineOptions extends Partial<GetOptions> {
  readonly dir: string;
  readonly retries?: number;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: RunEvent) => void;
  readonly clock?: HastyClock;
}

/** `get` over ready sources, as `src/index.ts` composes it. */
export async function runPipeline(
  sources: Source | readonly Source[],
  words: readonly string[],
  options: PipelineOptions,
): Promise<RunResult> {
  const { retries = 0, signal, onEvent, clock, ...rest } = options;
  const all = Array.isArray(sources) ? (sources as readonly Source[]) : [sources as Source];
  const context = { ...hastyContext(signal), ...(clock ? { clock } : {}) };
  const run = get(
    words,
    { filters: NO_FILTERS, ...rest },
    {
      context,
      retry: { retries, baseMs: 10, capMs: 100 },
      source: async (name) => {
        const found = all.find((source) => source.archive === name);
        if (!found) throw new Error(`no source ${name}`);
        return found;
      },
      links: new Map(),
      archives: {
        knows: (name) => all.some((source) => source.archive === name),
        ofServer: () => all[0]?.archive ?? null,
        fallback: all[0]?.archive ?? "",
      },
      fetchSelection: () => Promise.reject(new Error("nothing is fetched here")),
      stdin: async function* () {},
      store: openStore,
      onReceived: () => undefined,
      jobs: 2,
    },
  );
  const events: RunEvent[] = [];
  for await (const event of run) {
    events.push(event);
    onEvent?.(event);
  }
  return { summary: await run.result, events };
}
