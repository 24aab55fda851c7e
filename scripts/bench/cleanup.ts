/** What has to be undone when the process ends, however it ends: the last thing first. */
type Undo = () => void;
const undos: Undo[] = [];

function undoAll(): void {
  for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) {
    try {
      undo();
    } catch (error) {
      console.error(`clean-up: ${(error as Error).message}`);
    }
  }
}

process.on('exit', undoAll);
for (const [signal, number] of [['SIGINT', 2], ['SIGTERM', 15], ['SIGHUP', 1]] as const) {
  process.on(signal, () => {
    undoAll();
    process.exit(128 + number);
  });
}

/** Runs `undo` (synchronously) at the end of the process, unless the function given back was called before: that runs it now. */
export function atEnd(undo: Undo): () => void {
  undos.push(undo);
  return () => {
    const at = undos.indexOf(undo);
    if (at < 0) return;
    undos.splice(at, 1);
    undo();
  };
}
