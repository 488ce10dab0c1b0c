import CairnStorage
import Testing
