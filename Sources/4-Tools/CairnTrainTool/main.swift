// `cairn-train`: ranks are threads.
import CairnTrainCommands

TrainProgram.main(.threads)
