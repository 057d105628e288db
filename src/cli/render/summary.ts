/** The end of a run in words: what was stored and how it was proved, what failed and what to do, what is owed. */
import { shellWord } from "../command.ts";
import type { Failure, RunEvent, RunSummary } from "../library.ts";
import { counted, grouped, lasting, nounOfAll, shown, sized } from "./wording.ts";

const LISTED = 10;

/** Gathers from the events what a summary says beyond `RunSummary`; its size does not grow with the run. */
export interface Tale {
  event(event: RunEvent): void;
  lines(summary: RunSummary, facts: SummaryFacts): string[];
  /** Of a dry run: what would fail; empty when nothing would. */
  wouldFail(summary: RunSummary): string[];
}

export interface SummaryFacts {
  /** As the user named the folder. */
  readonly dir: string;
  /** Null when no log was written. */
  readonly log: string | null;
  /** Command line that goes on with the run. */
  readonly resume: string;
}

export function createTale(): Tale {
  const proofs = new Map<string, number>();
  const adoptions = new Map<string, number>();
  const disputed: { address: string; why: string }[] = [];
  const failures = new Map<string, { count: number; listed: Failure[] }>();
  const nouns = new Set<string>();
  let divided: Extract<RunEvent, { type: "divided" }> | null = null;
  let listed = 0;
  let dangling = 0;
  const listedDangling: Extract<RunEvent, { type: "reference-missing" }>[] = [];
  return {
    event(event) {
      if (event.type === "item-adopted") {
        nouns.add(`${event.item.split(":", 1)[0]}:`);
        const proof = event.proof.join(", ");
        if (adoptions.has(proof) || adoptions.size < LISTED)
          adoptions.set(proof, (adoptions.get(proof) ?? 0) + 1);
        if (event.disputed !== null && disputed.length < LISTED)
          disputed.push({ address: event.address, why: event.disputed });
      } else if (event.type === "divided") divided = event;
      else if (event.type === "item-stored") {
        nouns.add(`${event.item.split(":", 1)[0]}:`);
        const proof = event.proof.join(", ");
        if (proofs.has(proof) || proofs.size < LISTED) proofs.set(proof, (proofs.get(proof) ?? 0) + 1);
        if (event.disputed !== null && disputed.length < LISTED) {
          disputed.push({ address: event.address, why: event.disputed });
        }
      } else if (event.type === "reference-missing") {
        dangling++;
        if (listedDangling.length < LISTED) listedDangling.push(event);
      } else if (event.type === "item-failed") {
        nouns.add(`${event.item.split(":", 1)[0]}:`);
        const group = failures.get(event.code) ?? { count: 0, listed: [] };
        failures.set(event.code, group);
        group.count++;
        if (listed < LISTED) {
          group.listed.push(event);
          listed++;
        }
      }
    },
    lines(summary, facts) {
      const noun = nounOfAll(nouns);
      const lines: string[] = [];
      const dir = shellWord(facts.dir);
      const { stored, adopted, here, failed, tookMs, receivedBytes, error } = summary;
      const interrupted = summary.exit === 130 || summary.exit === 143;

      if (stored.items > 0) {
        const rate =
          tookMs >= 1000 && receivedBytes > 0 ? `, ${sized(receivedBytes / (tookMs / 1000))}/s` : "";
        lines.push(
          `Stored ${counted(stored.items, noun)} (${counted(stored.files, "file")}, ${sized(stored.bytes)}) in ${lasting(tookMs)}${rate}.`,
        );
        for (const [proof, count] of proofs) {
          if (proof === "") continue;
          const who =
            proofs.size === 1
              ? "Each was proved before it got its name"
              : count === 1
                ? "1 was proved before it got its name"
                : `${grouped(count)} were proved before they got their names`;
          lines.push(`  ${who}: ${shown(proof)}.`);
        }
      }
      if (adopted.items > 0) {
        const { items, files, bytes, fetchedFiles, fetchedBytes } = adopted;
        const all = `${counted(items, noun)} (${counted(files, "file")}, ${sized(bytes)})`;
        lines.push(`Taken over from another tool: ${all}.`);
        if (fetchedFiles > 0)
          lines.push(
            `  Missing or wrong and fetched: ${counted(fetchedFiles, "file")}, ${sized(fetchedBytes)}.`,
          );
        for (const [proof, count] of adoptions)
          lines.push(`  ${counted(count, noun)} proved by: ${shown(proof)}.`);
      }
      // What a plan found here was told before, and its last job tells the end.
      if (here.items > 0 && divided === null) {
        lines.push(
          `${stored.items + adopted.items === 0 && failed === 0 && error === null ? "Everything was here and proved already" : "Here already"}: ${counted(here.items, noun)} (${counted(here.files, "file")}, ${sized(here.bytes)}).`,
        );
      }
      if (divided !== null) {
        const { items, bytes, slices } = divided;
        lines.push(`Planned: ${counted(items, noun)} (${sized(bytes)}) in ${counted(slices, "slice")}.`);
      } else if (stored.items + adopted.items + here.items + failed === 0 && error === null)
        lines.push("There was nothing to do.");
      if (summary.withdrawn > 0) {
        lines.push(
          `${counted(summary.withdrawn, noun)} ${summary.withdrawn === 1 && noun !== "series" ? "is" : "are"} no longer in the archive; what is here stays.`,
        );
      }
      if (summary.dropped > 0)
        lines.push(`Left out, because dropped from this folder: ${counted(summary.dropped, noun)}.`);
      if (summary.disputed > 0) {
        lines.push(
          `Disputed: ${counted(summary.disputed, noun)}. Every digest is right, but the archive contradicts itself:`,
        );
        for (const { address, why } of disputed) lines.push(`  ${shown(address)}: ${shown(why)}`);
        if (summary.disputed > disputed.length)
          lines.push(`  and ${grouped(summary.disputed - disputed.length)} more`);
      }
      if (failed > 0) {
        lines.push(`Failed: ${counted(failed, noun)}.`, ...failureLines(failures, failed, "are in the log"));
      }
      if (dangling > 0) {
        lines.push(`Named by files here (IntendedFor), but not here: ${counted(dangling, "file")}.`);
        for (const { path, names } of listedDangling) lines.push(`  ${shown(names)}, by ${shown(path)}`);
        if (dangling > listedDangling.length)
          lines.push(`  and ${grouped(dangling - listedDangling.length)} more`);
        lines.push(`  To fetch what the archive has of them: gantry get -o ${dir} --with-intended`);
      }
      if (error !== null) {
        lines.push(
          `${interrupted ? "Stopped" : "Ended early"}: ${shown(error.message)}.`.replace(/\.\.$/, "."),
        );
        if (!interrupted && error.hint !== "") lines.push(`  Next: ${shown(error.hint)}`);
      }
      const held = divided === null ? stored.items + adopted.items + here.items : 0;
      if (summary.citations.length > 0 && held > 0) {
        lines.push("Using these data owes:");
        for (const { collection, licence, licenceUrl, doi } of summary.citations.slice(0, LISTED)) {
          const parts = [licence ?? "licence not stated", licenceUrl, doi === null ? null : `cite ${doi}`];
          lines.push(`  ${shown(collection)}: ${shown(parts.filter((part) => part !== null).join(", "))}`);
        }
        if (summary.citations.length > LISTED)
          lines.push(`  and ${grouped(summary.citations.length - LISTED)} more`);
        lines.push(`  (all of it in ${shown(facts.dir)}/.gantry/CITATION.txt)`);
      }
      const rows: [string, string][] = [];
      if (facts.log !== null) rows.push(["Log:", shown(facts.log)]);
      if (interrupted || failed > 0 || error !== null) {
        if (summary.exit !== 2) rows.push([interrupted ? "To go on:" : "To try again:", facts.resume]);
      }
      if (held > 0) rows.push(["To prove it again:", `gantry verify ${dir}`]);
      const width = Math.max(0, ...rows.map(([head]) => head.length));
      for (const [head, text] of rows) lines.push(`${head.padEnd(width)} ${text}`);
      return lines;
    },
    wouldFail({ failed }) {
      if (failed === 0) return [];
      return [
        `Would fail: ${counted(failed, nounOfAll(nouns))}.`,
        ...failureLines(failures, failed, "would"),
      ];
    },
  };
}

/** `rest`: what is said of those that are not shown. */
function failureLines(
  groups: ReadonlyMap<string, { readonly count: number; readonly listed: readonly Failure[] }>,
  failed: number,
  rest: string,
): string[] {
  const lines: string[] = [];
  let told = 0;
  for (const [code, { count, listed }] of groups) {
    const hint = listed[0]?.hint ?? "";
    lines.push(`  ${code} (${grouped(count)})${hint === "" ? "" : `: ${shown(hint)}`}`);
    for (const failure of listed) lines.push(`    ${shown(failure.address)}: ${shown(failure.message)}`);
    told += listed.length;
  }
  if (failed > told) lines.push(`  ${grouped(failed - told)} more ${rest}`);
  return lines;
}
