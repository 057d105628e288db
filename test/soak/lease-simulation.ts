/**
 * Tasks of an array in virtual time: they claim slices, fetch items, and are stopped, killed or frozen at random moments;
 * who was frozen wakes later and goes on as if nothing had happened. Only what leases and receipts say is shared.
 */
import { formatReceipt, type Receipt, resolveReceipts } from "../../src/model/receipt.ts";
import { doneName, type Lease, type LeaseStore, leaseName, SliceLeases } from "../../src/state/leases.ts";

export interface SimulationOptions {
  readonly seed: number;
  readonly items: number;
  readonly sliceItems: number;
  readonly tasks: number;
  /** Share of the tasks' lives that end early. */
  readonly preempted: number;
}

export interface SimulationResult {
  /** Items without a receipt. */
  readonly missing: number;
  /** Items of which not exactly one receipt is current. */
  readonly disputed: number;
  /** Fetches of items that had a receipt, or got one from somebody else meanwhile. */
  readonly duplicates: number;
  /** Leases that were followed by another generation. */
  readonly expired: number;
  readonly lives: number;
  readonly ended: { readonly stopped: number; readonly killed: number; readonly frozen: number };
}

/** mulberry32 by Tommy Ettinger, public domain. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Time that passes only when everybody waits. */
class VirtualClock {
  #nowMs = 0;
  #sequence = 0;
  readonly #waiting: { readonly atMs: number; readonly order: number; readonly wake: () => void }[] = [];

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number): Promise<void> {
    return new Promise((wake) => {
      const entry = { atMs: this.#nowMs + ms, order: this.#sequence++, wake };
      let low = 0;
      let high = this.#waiting.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        const other = this.#waiting[middle] as typeof entry;
        if (other.atMs < entry.atMs || (other.atMs === entry.atMs && other.order < entry.order))
          low = middle + 1;
        else high = middle;
      }
      this.#waiting.splice(low, 0, entry);
    });
  }

  async run(until: () => boolean): Promise<void> {
    while (!until()) {
      const next = this.#waiting.shift();
      if (!next) throw new Error("everybody waits for ever");
      this.#nowMs = next.atMs;
      next.wake();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** Thrown into a task that is killed. */
class Killed extends Error {}

interface Life {
  readonly run: string;
  beat: number;
  ended: boolean;
  killed: boolean;
  frozenUntilMs: number;
}

export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const { seed, items, sliceItems, tasks, preempted } = options;
  const random = randomOf(seed);
  const clock = new VirtualClock();
  const slices = Math.ceil(items / sliceItems);
  const names = new Map<string, string>();
  const lives = new Map<string, Life>();
  const receipts = new Map<number, { readonly run: string; readonly receipt: Receipt }[]>();
  const ended = { stopped: 0, killed: 0, frozen: 0 };
  let expired = 0;
  let duplicates = 0;

  const latency = (life: Life): Promise<void> => pause(life, 1 + random() * 20);
  /** Every wait of a task: here it is killed, or sleeps through its own death. */
  async function pause(life: Life, ms: number): Promise<void> {
    await clock.sleep(ms);
    while (life.frozenUntilMs > clock.monotonicMs())
      await clock.sleep(life.frozenUntilMs - clock.monotonicMs());
    if (life.killed) throw new Killed();
  }
  const storeOf = (life: Life): LeaseStore => ({
    names: async () => {
      await latency(life);
      return [...names.keys()];
    },
    exists: async (name) => {
      await latency(life);
      return names.has(name);
    },
    take: async (name, holder) => {
      await latency(life);
      if (names.has(name)) return false;
      names.set(name, holder);
      if (!name.endsWith(".1")) expired += 1;
      return true;
    },
    holder: async (name) => names.get(name) ?? null,
    finish: async (slice, done) => {
      await latency(life);
      names.set(doneName(slice), done.run);
      for (let generation = 1; generation <= done.generation; generation += 1) {
        await latency(life);
        names.delete(leaseName(slice, generation));
      }
    },
    remove: async (name) => {
      names.delete(name);
    },
  });

  const heartbeat = async (life: Life): Promise<void> => {
    while (!life.ended && !life.killed) {
      await clock.sleep(2_000);
      if (life.frozenUntilMs <= clock.monotonicMs()) life.beat += 1;
    }
  };

  async function work(task: number, life: Life, stopAtMs: number): Promise<"whole" | "stopped"> {
    const leases = new SliceLeases({
      run: life.run,
      slices,
      start: Math.floor((task * slices) / tasks),
      store: storeOf(life),
      pulse: async (run) => {
        await latency(life);
        const other = lives.get(run) as Life;
        return { ended: other.ended, beat: other.beat };
      },
      clock: { monotonicMs: () => clock.monotonicMs(), sleep: (ms) => pause(life, ms) },
      deadAfterMs: 60_000,
      pollMs: 1_000,
    });
    for (;;) {
      const lease = await leases.claim();
      if (!lease) return "whole";
      const before = new Set(lease.before);
      let mine = true;
      for (
        let item = lease.slice * sliceItems;
        item < Math.min(items, (lease.slice + 1) * sliceItems);
        item += 1
      ) {
        if (clock.monotonicMs() >= stopAtMs) return "stopped";
        if (receipts.get(item)?.some(({ run }) => before.has(run))) continue;
        mine = await store(life, leases, lease, item);
        if (!mine) break;
      }
      if (mine) await leases.finish(lease, []);
    }
  }

  async function store(life: Life, leases: SliceLeases, lease: Lease, item: number): Promise<boolean> {
    await pause(life, 200 + random() * 2_000);
    if (!(await leases.holds(lease))) return false;
    await latency(life);
    const lines = receipts.get(item) ?? [];
    if (lines.length > 0) duplicates += 1;
    lines.push({ run: life.run, receipt: receiptOf(item, life.run) });
    receipts.set(item, lines);
    return true;
  }

  /** One task with all its lives: queued again after each that was cut short. */
  async function task(number: number): Promise<void> {
    for (let turn = 0; ; turn += 1) {
      const run = `run-${number}-${turn}`;
      const life: Life = { run, beat: 0, ended: false, killed: false, frozenUntilMs: 0 };
      lives.set(run, life);
      void heartbeat(life);
      const cut = random() < preempted;
      const kind = (["stopped", "killed", "frozen"] as const)[Math.floor(random() * 3)] ?? "stopped";
      const afterMs = random() * 200_000;
      const atMs = clock.monotonicMs() + afterMs;
      if (cut && kind !== "stopped")
        void clock.sleep(afterMs).then(() => {
          if (life.ended) return;
          if (kind === "killed") life.killed = true;
          else life.frozenUntilMs = clock.monotonicMs() + random() * 240_000;
        });
      const end = work(number, life, cut && kind === "stopped" ? atMs : Number.POSITIVE_INFINITY).then(
        (how) => {
          life.ended = true;
          return how;
        },
        (error: unknown) => {
          if (!(error instanceof Killed)) throw error;
          return "killed" as const;
        },
      );
      // A frozen one is given up by the scheduler while it lives on, and its task is queued again.
      const given =
        cut && kind === "frozen" ? clock.sleep(afterMs + 30_000).then(() => "frozen" as const) : end;
      const how = await Promise.race([end, given]);
      if (how === "whole") return;
      ended[how] += 1;
      if (how === "frozen") orphans.push(end);
      await clock.sleep(5_000 + random() * 60_000);
    }
  }

  const orphans: Promise<unknown>[] = [];
  let over = false;
  let failure: unknown = null;
  const all = Promise.all(Array.from({ length: tasks }, (_, number) => task(number)))
    // The last job of the array: whatever nobody living holds.
    .then(() => task(tasks))
    .then(() => Promise.all(orphans))
    .catch((error: unknown) => {
      failure = error ?? new Error("failed");
    })
    .finally(() => {
      over = true;
    });
  await clock.run(() => over);
  await all;
  if (failure !== null) throw failure;

  let missing = 0;
  let disputed = 0;
  for (let item = 0; item < items; item += 1) {
    const lines = receipts.get(item) ?? [];
    if (lines.length === 0) missing += 1;
    else if (!resolveReceipts(lines.map(({ receipt }) => receipt))) disputed += 1;
  }
  return { missing, disputed, duplicates, expired, lives: lives.size, ended };
}

function receiptOf(item: number, run: string): Receipt {
  return formatReceipt({
    item: `dicom-series:${item}`,
    type: "stored",
    supersedes: [],
    archive: "tcia",
    revision: "1",
    at: run,
    from: null,
    tookMs: 0,
    proof: ["md5"],
    disputed: null,
    place: { folder: null, file: null, prefix: "" },
    files: [],
    damaged: [],
    facts: {},
  }).receipt;
}
