/** Surroundings for tests of commands: everything is held in memory and can be looked at afterwards. */
import type { Io, Output, Signal } from "./io.ts";
import type { Library } from "./library.ts";
import type { System } from "./system.ts";

class FakeOutput implements Output {
  readonly isTTY: boolean;
  readonly columns: number;
  text = "";
  /** From now on every write fails with this. */
  failure: Error | null = null;
  constructor(isTTY: boolean, columns: number) {
    this.isTTY = isTTY;
    this.columns = columns;
  }
  write(text: string, done?: (error?: Error | null) => void): boolean {
    if (this.failure === null) this.text += text;
    done?.(this.failure);
    return true;
  }
  on(): this {
    return this;
  }
}

export interface FakeIo extends Io {
  readonly stdout: FakeOutput;
  readonly stderr: FakeOutput;
  /** Exit statuses that were asked for at once. */
  readonly exits: number[];
  signal(signal: Signal): void;
  /** Moves the clock; nothing waits for it. */
  pass(ms: number): void;
}

export interface FakeIoOptions {
  readonly terminal?: boolean;
  readonly columns?: number;
  readonly env?: Record<string, string>;
  readonly library?: Partial<Library>;
  readonly system?: Partial<System>;
  readonly stdin?: readonly string[];
}

export function fakeIo(options: FakeIoOptions = {}): FakeIo {
  const { terminal = false, columns = 100 } = options;
  let handler: ((signal: Signal) => void) | null = null;
  let ms = 0;
  const exits: number[] = [];
  async function* stdin() {
    yield* options.stdin ?? [];
  }
  return {
    stdout: new FakeOutput(terminal, columns),
    stderr: new FakeOutput(terminal, columns),
    stdin: Object.assign(stdin(), { isTTY: terminal }),
    env: options.env ?? {},
    cwd: "/home/user",
    program: ["node", "gantry.js"],
    onSignal(next) {
      handler = next;
      return () => {
        handler = null;
      };
    },
    exit: (status) => void exits.push(status),
    now: () => new Date(Date.UTC(2026, 0, 2, 3, 4, 5) + ms),
    monotonicMs: () => ms,
    sleep: async (time) => {
      ms += time;
    },
    library: async () =>
      ({ isArchiveName: () => false, holdsMembers: async () => false, ...options.library }) as Library,
    system: async () => ({ isFile: async () => false, ...options.system }) as System,
    exits,
    signal: (signal) => handler?.(signal),
    pass: (time) => {
      ms += time;
    },
  };
}
