import CairnBase
