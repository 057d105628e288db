/** The three date inputs of NBIA, each to `yyyy-MM-dd HH:mm:ss`; undefined when unparsable. */

/** v1 and v2 New…: `yyyy/MM/dd`. */
export const parseSlashDate = (text: string): string | undefined =>
  lenient(/^(\d+)\/(\d+)\/(\d+)/.exec(text), [1, 2, 3]);

/** v1 and v2 getUpdatedSeries: `dd/MM/yyyy`; `2024/01/02` does not fail but is a day of the year 7. */
export const parseUpdatedDate = (text: string): string | undefined =>
  lenient(/^(\d+)\/(\d+)\/(\d+)/.exec(text), [3, 2, 1]);

/** v4: `MM-dd-yyyy`. */
export const parseDashDate = (text: string): string | undefined =>
  lenient(/^(\d+)-(\d+)-(\d+)/.exec(text), [3, 1, 2]);

/** As java.text.SimpleDateFormat in its lenient mode: what is too large rolls over. */
function lenient(match: RegExpExecArray | null, [year, month, day]: readonly [number, number, number]) {
  if (match === null) return undefined;
  const date = new Date(0);
  date.setUTCFullYear(Number(match[year]), Number(match[month]) - 1, Number(match[day]));
  if (Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999) return undefined;
  return `${date.toISOString().slice(0, 10)} 00:00:00`;
}
