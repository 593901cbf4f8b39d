// Does this client send each account where the ledger expects it? Compares its partitioner with partition_vectors.json.
//
//   cd examples/node && npm install && node check_partitions.mjs
//
// Exits with 1 if one differs. To check another client, or your own code, replace `partitioner`.

import { compatibilityPartitioner } from '@platformatic/kafka'
import { readFileSync } from 'node:fs'

const partitioner = (key, partitions) => compatibilityPartitioner(undefined, key) % partitions

const file = new URL('../partition_vectors.json', import.meta.url)
const { partitions, vectors } = JSON.parse(readFileSync(file, 'utf8'))
let wrong = 0
for (const { account_id: accountId, partition } of vectors) {
  partitions.forEach((count, index) => {
    const found = partitioner(Buffer.from(accountId), count)
    if (found !== partition[index]) {
      wrong += 1
      console.error(`${accountId} of ${count} partitions: expected ${partition[index]}, found ${found}`)
    }
  })
}
console.log(`${vectors.length} account ids, ${partitions.length} numbers of partitions: ${wrong} wrong`)
process.exitCode = wrong === 0 ? 0 : 1
