/**
 * The pipelines that a shell expert would build. Each is a bash script that runs in a fresh folder with `urls.tsv`
 * (UID, tab, URL) in it, given for free, and leaves data/UID/*.dcm, every file checked against the archive's own
 * md5hashes.csv, zips removed, and the file system synced.
 */

export interface Opponent {
  readonly name: string;
  readonly script: string;
}

/** One check of everything, on both cores: one awk and two md5sum, whatever the number of series. */
const CHECK_ALL = `
find data -name md5hashes.csv -print0 | xargs -0 awk -F, '
  FNR == 1 { folder = FILENAME; sub(/[^\\/]*$/, "", folder); next }
  { print $2 "  " folder $1 }' > sums
split -n l/2 sums sums.
ls sums.a? | xargs -P 2 -n 1 md5sum --quiet -c
`;
const SYNC = `
sync -f data
`;
const UNZIP_ALL = `
ls zips | xargs -P 2 -I{} unzip -q zips/{} -d data/{}
`;

export const OPPONENTS: readonly Opponent[] = [
  {
    name: "curl --parallel, then unzip ×2, then md5sum ×2",
    script: `
mkdir zips data
awk -F'\\t' '{ print "url = \\"" $2 "\\"\\noutput = \\"zips/" $1 "\\"" }' urls.tsv > list
curl -sS --fail --parallel --parallel-max 8 -K list
${UNZIP_ALL}${CHECK_ALL}
rm -r zips
${SYNC}`,
  },
  {
    name: "aria2c -j 8, then unzip ×2, then md5sum ×2",
    script: `
mkdir zips data
awk -F'\\t' '{ print $2 "\\n  out=zips/" $1 }' urls.tsv > list
aria2c -q -j 8 -x 1 -i list --file-allocation=none --auto-file-renaming=false
${UNZIP_ALL}${CHECK_ALL}
rm -r zips
${SYNC}`,
  },
  {
    name: "xargs -P 4 (curl, unzip, md5sum)",
    script: `
mkdir zips data
export LC_ALL=C
xargs -a urls.tsv -P 4 -n 2 sh -ec '
  curl -sS --fail -o zips/$0 "$1"
  unzip -q zips/$0 -d data/$0
  rm zips/$0
  cd data/$0
  sed -E "1d; s/^(.*),(.*)$/\\\\2  \\\\1/" md5hashes.csv | md5sum --quiet -c -'
${SYNC}`,
  },
  {
    name: "xargs -P 4 (curl, unzip), then md5sum ×2",
    script: `
mkdir zips data
xargs -a urls.tsv -P 4 -n 2 sh -ec '
  curl -sS --fail -o zips/$0 "$1"
  unzip -q zips/$0 -d data/$0
  rm zips/$0'
${CHECK_ALL}${SYNC}`,
  },
];
